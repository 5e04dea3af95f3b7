# For the unit tests, the fuzzers and t/bench/writer.c: configured headers of
# nginx, and compiler flags.
#
# TOP is the path of the repository from the including makefile.

NGINX_SRC ?= /usr/share/nginx/src
HEADERS   ?= $(TOP)/build/headers

SRC        = $(TOP)/src
TREE      := $(abspath $(HEADERS))

INCS       = -I $(SRC)/json -I $(SRC)/pg -I $(SRC)/http \
             -I $(TREE)/src/core -I $(TREE)/src/event \
             -I $(TREE)/src/event/modules -I $(TREE)/src/event/quic \
             -I $(TREE)/src/os/unix -I $(TREE)/objs
WARN       = -Wall -Wextra -Werror -Wno-unused-parameter
SAN        = -fsanitize=address,undefined -fno-omit-frame-pointer \
             -fno-sanitize-recover=undefined -U_FORTIFY_SOURCE

AUTO       = $(TREE)/objs/ngx_auto_config.h
LUNARY     = $(wildcard $(SRC)/*/*.h)


# flags like those of Debian's builds

$(AUTO):
	@rm -rf $(TREE) && mkdir -p $(TREE)
	@cp -r $(NGINX_SRC)/auto $(NGINX_SRC)/src $(TREE)/
	@set -e; flags="--with-compat --with-debug --with-threads"; \
	if test -e $(NGINX_SRC)/conf_flags; then \
	    . $(NGINX_SRC)/conf_flags; \
	else \
	    NGX_CONF_FLAGS=($$flags --with-http_ssl_module); \
	fi; \
	test -e $(NGINX_SRC)/configure \
	    && cp $(NGINX_SRC)/configure $(TREE)/configure \
	    || cp $(NGINX_SRC)/auto/configure $(TREE)/configure; \
	cd $(TREE); ./configure "$${NGX_CONF_FLAGS[@]}" \
	    --builddir=$(TREE)/objs > configure.log 2>&1 \
	    || { tail -n 20 configure.log >&2; exit 1; }
