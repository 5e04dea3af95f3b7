# make -C t -f analyse.mk: checks the sources with clang-tidy (see .clang-tidy)
# and gcc's analyzer.  t/lint calls it.

SHELL   = /bin/bash
TOP     = ..

include unit/nginx.mk

INCS   += -I $(TREE)/src/http -I $(TREE)/src/http/modules \
          -I $(TREE)/src/http/v2 -I $(TREE)/src/http/v3 \
          $(shell pkg-config --cflags-only-I libpq jansson libcrypto)
SOURCES = $(wildcard $(TOP)/*.c $(TOP)/src/*/*.c)

# recursive: over tables of the source that nest a few levels, and over the six
# dimensions that an array may have
NESTED  = %/ngx_http_lunary_run.c %/ngx_http_lunary_sql.c \
          %/ngx_lunary_value.c

.DEFAULT_GOAL = all
.PHONY: all $(SOURCES)

all: $(SOURCES)

$(SOURCES): $(AUTO)
	@clang-tidy --quiet $(if $(filter $(NESTED),$@), \
	    --checks=-misc-no-recursion) $@ -- $(INCS) 2> /dev/null
	@gcc -fanalyzer -Werror $(INCS) -c -o /dev/null $@
