# Draws the figures of t/bench/run: gnuplot -e "dir = '...'" plot.gp

set terminal pngcairo size 1000, 440 font "sans,11" background "white"
set output dir . "/bench.png"
set datafile separator "\t"
set multiplot layout 1, 2

set logscale x 10
set xrange [0.7:1400]
set xtics (1, 10, 100, 1000)
set xlabel "runs a trace"
set grid ytics lc rgb "#dddddd"
set border 3
set tics nomirror
set style data linespoints

set title "requests a second"
set logscale y 10
set key bottom left reverse Left samplen 2

plot dir . "/plot.tsv" using 1:2 title "plain query, pgbench" \
         lw 2 pt 5 lc rgb "#999999", \
     "" using 1:3 title "module's query, pgbench" lw 2 pt 7 lc rgb "#336791", \
     "" using 1:4 title "module, 16 clients" lw 2 pt 9 lc rgb "#009639"

set title "module with 16 clients / pgbench at its best"
unset logscale y
set yrange [0:*]
set key bottom right

plot 1 notitle lw 1 lc rgb "#666666", \
     dir . "/plot.tsv" using 1:5 title "module's query, pgbench" \
         lw 2 pt 7 lc rgb "#336791", \
     "" using 1:6 title "plain query, pgbench" \
         lw 2 pt 5 lc rgb "#999999"
