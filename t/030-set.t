# The set: the run and all its descendants, each once, in order.

use strict;
use warnings;

use lib 't/lib';
use Lunary::Test;
use Test::Nginx::Socket;

plan 'no_plan';
use_database();
no_long_string();
run_tests();

__DATA__

=== TEST 1: a tree, from its root and from an inner run
--- run eval
[101, 102, 103, 104]
--- key: alpha
--- error_code eval
[(200) x 4]
--- ids eval
['101 102 103 104 105 106', '102 103', '103', '104']
--- oracle eval
[map { "alpha $_" } 101 .. 104]



=== TEST 2: order by created_at, then id
--- run: 120
--- key: alpha
--- ids: 126 123 120 124 125 122 121 127
--- oracle: alpha 120



=== TEST 3: a run that is its own parent
--- run eval
[200, 201]
--- key: alpha
--- error_code eval
[200, 200]
--- ids eval
['200 201', '201']
--- oracle eval
['alpha 200', 'alpha 201']



=== TEST 4: two runs that are each other's parent
--- run eval
[210, 211]
--- key: alpha
--- error_code eval
[200, 200]
--- ids eval
['210 211', '210 211']
--- oracle eval
['alpha 210', 'alpha 211']



=== TEST 5: a cycle with a branch, from each of its runs
--- run eval
[220 .. 224]
--- key: alpha
--- error_code eval
[(200) x 5]
--- ids eval
[('220 221 222 223 224') x 3, '223 224', '224']
--- oracle eval
[map { "alpha $_" } 220 .. 224]



=== TEST 6: a cycle with a run that is marked as deleted
--- run eval
[230, 231, 232]
--- key: alpha
--- error_code eval
[200, 200, 200]
--- ids eval
[('230 231 232') x 3]
--- oracle eval
['alpha 230', 'alpha 231', 'alpha 232']



=== TEST 7: a cycle through another project is not followed
--- run eval
[240, 241, 242]
--- key: alpha
--- error_code eval
[200, 404, 200]
--- ids eval
['240 242', undef, '242']
--- oracle eval
['alpha 240', undef, 'alpha 242']



=== TEST 8: a run of another project is not returned and not followed
--- run eval
[300, 301, 302, 320, 322]
--- key: alpha
--- error_code eval
[200, 404, 200, 200, 200]
--- ids eval
['300 304', undef, '302 303', '320', '322']
--- oracle eval
['alpha 300', undef, 'alpha 302', 'alpha 320', 'alpha 322']



=== TEST 9: the same runs for the other project
--- run eval
[241, 301, 310, 321]
--- key: beta
--- error_code eval
[(200) x 4]
--- ids eval
['241', '301', '310 311', '321']
--- oracle eval
['beta 241', 'beta 301', 'beta 310', 'beta 321']



=== TEST 10: runs marked as deleted are runs like others
--- run eval
[400, 401, 410, 411, 412, 413, 415, 430]
--- key: alpha
--- oracle eval
[map { "alpha $_" } 400, 401, 410, 411, 412, 413, 415, 430]



=== TEST 11: a thousand levels
--- run eval
[80000, 80500, 80999]
--- key: alpha
--- error_code eval
[200, 200, 200]
--- oracle eval
['alpha 80000', 'alpha 80500', 'alpha 80999']



=== TEST 12: a thousand children
--- run: 90000
--- key: alpha
--- oracle: alpha 90000



=== TEST 13: a key returns no run of another project
--- run eval
[101, 200, 500, 700]
--- key: beta
--- error_code eval
[(404) x 4]
--- message eval
[('Run not found') x 4]
