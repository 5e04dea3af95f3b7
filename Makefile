# Builds, tests, packages.  `make help` lists what there is.
#
#   make                     build/ngx_http_lunary_module.so for the nginx
#                            that is installed (Debian's nginx-dev)
#   make NGINX_SRC=dir       the same for a source tree of nginx
#   make nginx NGINX_SRC=dir a whole nginx of that tree, for the tests
#
# Variables: NGINX_SRC, SANITIZE=1 (AddressSanitizer and UBSan), VALGRIND=1
# (the tests' nginx under memcheck), BUILD (where to build), T (test files),
# REPEAT (times each test), SECONDS (of fuzzing).

SHELL     = /bin/bash
MODULE    = ngx_http_lunary_module.so

BUILD    ?= build
SECONDS  ?= 60
T        ?=
REPEAT   ?= 1
DESTDIR  ?=
CFLAGS   ?=
LDFLAGS  ?=
NPROC    := $(shell nproc 2>/dev/null || echo 1)

override BUILD := $(abspath $(BUILD))

SUDO     := $(if $(filter 0,$(shell id -u)),,sudo)
export PATH := $(PATH):/usr/sbin:/sbin



# what is built, and where

DEBIAN_SRC = /usr/share/nginx/src

ifeq ($(NGINX_SRC),)

FLAVOUR   := debian
NGINX     ?= $(or $(shell command -v nginx),/usr/sbin/nginx)
NGINX_ID   = $(wildcard $(NGINX) $(DEBIAN_SRC)/conf_flags)

else

override NGINX_SRC := $(abspath $(NGINX_SRC))
FLAVOUR   := $(notdir $(NGINX_SRC))-$(firstword \
                 $(shell printf %s "$(NGINX_SRC)" | cksum))
NGINX      = $(TREE)/objs/nginx
NGINX_ID   = $(NGINX_SRC)/src/core/nginx.h

endif

# nginx takes a variable of this name for the sockets it inherits
unexport NGINX

ifneq ($(SANITIZE),)

FLAVOUR   := $(FLAVOUR)-sanitize
OUT        = $(BUILD)/sanitize
CC_SAN     = -fsanitize=address,undefined -fno-omit-frame-pointer \
             -fno-sanitize=alignment -fno-sanitize-recover=undefined \
             -U_FORTIFY_SOURCE -O1
LD_SAN     = -fsanitize=address,undefined

# a whole nginx: each allocation by itself; nginx copies no bytes from NULL
NGINX_SAN  = -DNGX_DEBUG_PALLOC=1 -fno-sanitize=nonnull-attribute

else ifneq ($(COVERAGE),)

FLAVOUR   := $(FLAVOUR)-coverage
OUT        = $(BUILD)/coverage
CC_SAN     = --coverage -fprofile-update=atomic -U_FORTIFY_SOURCE -O0
LD_SAN     = --coverage

else

# tests with another nginx leave the module for the installed one as it is
OUT       := $(BUILD)

ifneq ($(and $(NGINX_SRC),$(filter test nginx,$(MAKECMDGOALS))),)
OUT        = $(TREE)
endif

endif

TREE       = $(BUILD)/nginx/$(FLAVOUR)
OBJS       = $(TREE)/objs
SO         = $(OUT)/$(MODULE)

CC_OPT     = -Wall -Wextra -Werror -Wno-unused-parameter \
             $(CC_SAN) $(CFLAGS)
LD_OPT     = $(LD_SAN) $(LDFLAGS)

# the parts of a source tree of nginx that the module needs, and the tests

SRC_FLAGS  = --with-compat --with-debug --with-threads --with-pcre-jit \
             --with-http_ssl_module --with-http_v2_module \
             --with-http_realip_module --with-http_auth_request_module \
             --with-http_gunzip_module --with-http_sub_module \
             --with-poll_module --with-select_module \
             --prefix=$(TREE)/prefix --error-log-path=stderr


.PHONY: all module nginx deps deps-build deps-deb test coverage lint demo \
        bench fuzz deb install clean help FORCE

all: module

help:
	@sed -n '/^$$/q; s/^# \{0,1\}//p' Makefile
	@printf '\nTargets: module nginx deps test coverage lint demo bench fuzz'
	@printf ' deb install clean\n'


# configure writes nowhere but below $(TREE); a tree given with NGINX_SRC is
# copied, for configure would write into it

$(OBJS)/.configured: config Makefile $(NGINX_ID)
	@rm -rf $(TREE) && mkdir -p $(TREE)
ifeq ($(NGINX_SRC),)
	@test -e $(DEBIAN_SRC)/conf_flags \
	    || { echo "nginx-dev is missing: make deps, or NGINX_SRC=dir" >&2; \
	         exit 1; }
	@set -e; cd $(DEBIAN_SRC); . ./conf_flags; cc= ld=; \
	eval "set -- $$($(NGINX) -V 2>&1 \
	                | sed -n 's/^configure arguments: //p')"; \
	for arg; do \
	    case "$$arg" in \
	        --with-cc-opt=*) cc=$${arg#*=} ;; \
	        --with-ld-opt=*) ld=$${arg#*=} ;; \
	    esac; \
	done; \
	ASAN_OPTIONS=detect_leaks=0 ./configure "$${NGX_CONF_FLAGS[@]}" \
	    --with-cc-opt="$$cc $(CC_OPT)" --with-ld-opt="$$ld $(LD_OPT)" \
	    --builddir=$(OBJS) --add-dynamic-module=$(CURDIR) \
	    > $(TREE)/configure.log 2>&1 \
	    || { tail -n 20 $(TREE)/configure.log >&2; exit 1; }
else
	@cp -r $(NGINX_SRC)/. $(TREE)/ && rm -rf $(TREE)/objs $(TREE)/.git
	@set -e; cd $(TREE); configure=./configure; \
	test -e auto/configure && configure=auto/configure; \
	ASAN_OPTIONS=detect_leaks=0 $$configure $(SRC_FLAGS) \
	    --with-cc-opt="-g -O2 -fPIC $(CC_OPT) \
	        $(if $(SANITIZE),$(NGINX_SAN))" \
	    --with-ld-opt="-fPIC $(LD_OPT)" \
	    --builddir=$(OBJS) --add-dynamic-module=$(CURDIR) \
	    > $(TREE)/configure.log 2>&1 \
	    || { tail -n 20 $(TREE)/configure.log >&2; exit 1; }
endif
	@touch $@


# nginx's own makefile knows what depends on what; the lock lets two builds
# in one directory wait for each other

module: FORCE
	@mkdir -p $(OUT)
	@flock $(BUILD)/.lock $(MAKE) --no-print-directory $(SO) OUT=$(OUT)

$(SO): $(OBJS)/.configured FORCE
ifeq ($(NGINX_SRC),)
	@$(MAKE) --no-print-directory $(if $(V),,-s) -j$(NPROC) -C $(DEBIAN_SRC) \
	    -f $(OBJS)/Makefile modules
else
	@$(MAKE) --no-print-directory $(if $(V),,-s) -j$(NPROC) -C $(TREE) \
	    -f $(OBJS)/Makefile modules
endif
	@cmp -s $(OBJS)/$(MODULE) $@ \
	    || { cp $(OBJS)/$(MODULE) $@.new && mv $@.new $@; }

nginx: module
ifeq ($(NGINX_SRC),)
	@echo "the installed $(NGINX) is used"
else
	@mkdir -p $(TREE)/prefix/logs
	@flock $(BUILD)/.lock $(MAKE) --no-print-directory $(if $(V),,-s) \
	    -j$(NPROC) -C $(TREE) -f $(OBJS)/Makefile binary
	@echo $(NGINX)
endif


# what Debian has to have; nothing is done where it is all there

BUILD_DEPS = gcc libc6-dev make pkg-config nginx nginx-dev libpq-dev \
             libjansson-dev libssl-dev libpcre2-dev zlib1g-dev
RUN_DEPS   = postgresql postgresql-client openssl curl procps
TEST_DEPS  = libtest-base-perl libtest-longstring-perl libjson-xs-perl \
             libjson-validator-perl libyaml-libyaml-perl libdbd-pg-perl \
             libdbi-perl libwww-perl liblist-moreutils-perl \
             libipc-run-perl nghttp2-client pgbouncer cppcheck shellcheck \
             clang clang-tidy libclang-rt-dev git chromium \
             chromium-driver chromium-sandbox gnuplot-nox prometheus valgrind
DEB_DEPS   = build-essential dpkg-dev debhelper fakeroot lintian

deps: DEPS = $(BUILD_DEPS) $(RUN_DEPS) $(TEST_DEPS) $(DEB_DEPS)
deps-build: DEPS = $(BUILD_DEPS) $(RUN_DEPS)
deps-deb: DEPS = $(BUILD_DEPS) $(DEB_DEPS)

deps deps-build deps-deb:
	@missing=$$(for p in $(DEPS); do \
	    dpkg-query -W -f '$${db:Status-Status}\n' $$p 2>/dev/null \
	        | grep -qx installed || echo $$p; \
	done); \
	test -z "$$missing" && exit 0; \
	echo "installing" $$missing; \
	$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get update -q \
	&& $(SUDO) env DEBIAN_FRONTEND=noninteractive \
	    apt-get install -q -y --no-install-recommends $$missing < /dev/null


# the suite

test: deps
	@$(MAKE) --no-print-directory $(if $(NGINX_SRC),nginx,module)
	@BUILD=$(BUILD) MODULE=$(SO) NGINX_BINARY=$(NGINX) \
	    REPEAT=$(REPEAT) SANITIZE=$(SANITIZE) VALGRIND=$(VALGRIND) \
	    t/run $(T)

# the lines that the suite comes by, and those that it does not; workers that
# are killed say nothing of theirs.  The files of the counts are there before,
# for workers of any user to write

coverage: deps
	@$(MAKE) --no-print-directory module COVERAGE=1
	@$(MAKE) --no-print-directory coverage-run COVERAGE=1 T="$(T)"

coverage-run:
	@rm -f $(BUILD)/unit-coverage/*.gcda
	@for file in $(OBJS)/addon/*/*.gcno; do \
	    install -m 666 /dev/null $${file%.gcno}.gcda; \
	done
	@BUILD=$(BUILD) MODULE=$(SO) NGINX_BINARY=$(NGINX) COVERAGE=1 \
	    t/run $(T); \
	status=$$?; \
	t/coverage $(OBJS)/addon/* $(BUILD)/unit-coverage > $(OUT)/report \
	&& sed '/^$$/q' $(OUT)/report && exit $$status

lint:
	@t/lint

fuzz: deps
	@$(MAKE) --no-print-directory module
	@$(MAKE) --no-print-directory -C t/fuzz -f GNUmakefile run \
	    BUILD=$(BUILD)/fuzz SECONDS=$(SECONDS)
	@BUILD=$(BUILD) MODULE=$(SO) PATH=$(dir $(NGINX)):$$PATH \
	    SECONDS=$(SECONDS) SANITIZE=$(SANITIZE) t/run t/320-server.t

bench: deps module
	@BUILD=$(BUILD) MODULE=$(SO) PATH=$(dir $(NGINX)):$$PATH t/bench/run

demo: deps-build module
	@BUILD=$(BUILD) MODULE=$(SO) PATH=$(dir $(NGINX)):$$PATH \
	    conf/demo/run.sh


# packaging

deb: deps-deb
	@BUILD=$(BUILD) debian/build.sh

install: module
	@dir=$$($(NGINX) -V 2>&1 | grep -o -e '--modules-path=[^ ]*'); \
	dir=$(DESTDIR)$${dir#*=}; test "$$dir" != "$(DESTDIR)" \
	    || { echo "$(NGINX) says no --modules-path" >&2; exit 1; }; \
	install -D -m 644 $(SO) "$$dir/$(MODULE)" \
	&& echo "$$dir/$(MODULE)"

clean:
	@rm -rf $(BUILD) t/servroot t/servroot_*
