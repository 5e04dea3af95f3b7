# Builds, tests, packages.  `make help` prints this comment and the targets.
#
#   make                     build/ngx_http_lunary_module.so for the installed
#                            nginx (needs Debian's nginx-dev)
#   make NGINX_SRC=dir       the same for a source tree of nginx
#   make nginx NGINX_SRC=dir builds that nginx, too, for the tests
#
# Variables: NGINX_SRC, SANITIZE=1 (AddressSanitizer and UBSan), VALGRIND=1
# (tests run nginx under memcheck), BUILD (build directory), T (test files),
# REPEAT (how often each test runs), SECONDS (of fuzzing), WERROR=1 (compiler
# warnings are errors, as in CI and for the tests).
#
# make deps installs all packages, make deps T=file those of a test.  The
# targets deps-build, -demo, -bench, -fuzz, -lint and -deb install fewer.

$(foreach v,CURDIR BUILD NGINX_SRC,$(if $(word 2,$($v)),\
    $(error make takes no path with a space, $v is "$($v)")))

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

WERROR   ?= $(CI)

export PATH := $(PATH):/usr/sbin:/sbin
export LC_ALL := C.UTF-8
unexport LANGUAGE

# what is built, from which nginx, and where

DEBIAN_SRC = /usr/share/nginx/src

ifeq ($(NGINX_SRC),)

FLAVOUR   := debian
NGINX     ?= $(or $(shell command -v nginx),/usr/sbin/nginx)
NGINX_ID   = $(wildcard $(NGINX) $(DEBIAN_SRC)/conf_flags)

else

override NGINX_SRC := $(abspath $(NGINX_SRC))
FLAVOUR   := $(notdir $(NGINX_SRC))-$(firstword \
                 $(shell printf %s "$(NGINX_SRC)" | cksum))
NGINX_ID   = $(wildcard $(NGINX_SRC)/src/core/nginx.h \
                        $(NGINX_SRC)/src/core/angie.h)
NGINX      = $(TREE)/objs/$(if $(filter %/angie.h,$(NGINX_ID)),angie,nginx)

endif

# nginx reads inherited sockets from a variable of this name
unexport NGINX

ifneq ($(SANITIZE),)

FLAVOUR   := $(FLAVOUR)-sanitize
OUT        = $(BUILD)/sanitize
CC_SAN     = -fsanitize=address,undefined -fno-omit-frame-pointer \
             -fno-sanitize=alignment -fno-sanitize-recover=undefined \
             -U_FORTIFY_SOURCE -O1
LD_SAN     = -fsanitize=address,undefined

# for a whole nginx: one malloc() per allocation; nginx calls memcpy() with
# NULL and length 0
NGINX_SAN  = -DNGX_DEBUG_PALLOC=1 -fno-sanitize=nonnull-attribute

else ifneq ($(COVERAGE),)

FLAVOUR   := $(FLAVOUR)-coverage
OUT        = $(BUILD)/coverage
CC_SAN     = --coverage -fprofile-update=atomic -U_FORTIFY_SOURCE -O0
LD_SAN     = --coverage

else

# tests with another nginx do not replace the module for the installed one
OUT       := $(BUILD)

ifneq ($(and $(NGINX_SRC),$(filter test nginx,$(MAKECMDGOALS))),)
OUT        = $(TREE)
endif

endif

TREE       = $(BUILD)/nginx/$(FLAVOUR)
OBJS       = $(TREE)/objs
SO         = $(OUT)/$(MODULE)

CC_OPT     = -Wall -Wextra -Wno-unused-parameter $(CC_SAN) $(CFLAGS)
LD_OPT     = $(LD_SAN) $(LDFLAGS)

# how an nginx source tree is configured for the module and the tests

SRC_FLAGS  = --with-compat --with-debug --with-threads --with-pcre-jit \
             --with-http_ssl_module --with-http_v2_module \
             --with-http_realip_module --with-http_auth_request_module \
             --with-http_gunzip_module --with-http_sub_module \
             --with-http_stub_status_module \
             --with-poll_module --with-select_module \
             --prefix=$(TREE)/prefix --error-log-path=stderr


.PHONY: all module nginx deps test coverage lint demo bench fuzz deb install \
        clean help FORCE

all: module

help:
	@sed -n '/^$$/q; s/^# \{0,1\}//p' Makefile
	@printf '\nTargets: module nginx deps test coverage lint demo bench fuzz'
	@printf ' deb install\n         compile_commands.json clean\n'


# configure writes only below $(TREE): the tree of NGINX_SRC is copied, as
# configure would write into it

$(OBJS)/.configured: config Makefile $(NGINX_ID)
	@rm -rf $(TREE) && mkdir -p $(TREE)
ifeq ($(NGINX_SRC),)
	@test -e $(DEBIAN_SRC)/conf_flags \
	    || { echo "nginx-dev is missing:" \
	              "make deps-build, or NGINX_SRC=dir" >&2; exit 1; }
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
	    || { grep ': error: ' $(TREE)/configure.log >&2 \
	         || tail -n 20 $(TREE)/configure.log >&2; exit 1; }
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
	    || { grep ': error: ' $(TREE)/configure.log >&2 \
	         || tail -n 20 $(TREE)/configure.log >&2; exit 1; }
endif
	@echo 'CFLAGS += $$(if $$(WERROR),-Werror,-Wno-error)' >> $(OBJS)/Makefile
	@touch $@


# nginx's makefile has the dependencies; the lock serializes builds in the same
# directory

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


# the compiler command of each file, for editors and other tools

compile_commands.json: $(OBJS)/.configured
	@$(MAKE) -w -n -B -C $(if $(NGINX_SRC),$(TREE),\
	    $(DEBIAN_SRC)) -f $(OBJS)/Makefile modules | t/compile-commands > $@


# Debian packages; t/packages prints those of the tests

BUILD_DEPS = gcc libc6-dev make pkg-config libpq-dev libjansson-dev \
             libssl-dev libpcre2-dev zlib1g-dev \
             $(if $(NGINX_SRC),,nginx nginx-dev)
DEB_DEPS   = build-essential dpkg-dev debhelper fakeroot nginx nginx-dev

deps:       DEPS = $$(t/packages $(T)) $(if $(T),,gcovr valgrind)
deps-coverage: DEPS = $$(t/packages $(T)) gcovr
deps-demo:  DEPS = postgresql curl
deps-bench: DEPS = $$(t/packages t/bench/run)
deps-fuzz:  DEPS = $$(t/packages t/fuzz/GNUmakefile t/320-server.t)
deps-lint:  DEPS = $$(t/packages t/lint)
deps-deb:   DEPS = $(DEB_DEPS)

deps deps-build deps-coverage deps-demo deps-bench deps-fuzz deps-lint \
deps-deb: FORCE
	@t/deps $(BUILD_DEPS) $(DEPS)


# the whole suite, or the files in T; with T nothing is installed

test: $(if $(T),,deps)
	@packages=$$(t/packages $(T)) || exit 1; \
	t/deps -n $$packages $(if $(VALGRIND),valgrind) \
	    || { echo 'make deps T="$(T)" installs that' >&2; exit 1; }
	@$(MAKE) --no-print-directory $(if $(NGINX_SRC),nginx,module) WERROR=1
	@BUILD=$(BUILD) MODULE=$(SO) NGINX_BINARY=$(NGINX) \
	    REPEAT=$(REPEAT) SANITIZE=$(SANITIZE) VALGRIND=$(VALGRIND) \
	    t/run $(T)

# Coverage of the sources by the suite, without killed workers.  The files of
# the counts are created first, so that workers of any user can write them

coverage: deps-coverage
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
	gcovr --root . --filter src/ --filter ngx_ --object-directory \
	    $(if $(NGINX_SRC),$(TREE),$(DEBIAN_SRC)) --txt $(OUT)/report \
	    $(OBJS)/addon $(BUILD)/unit-coverage \
	&& cut -c1-61 $(OUT)/report && echo "lines that did not run: $(OUT)/report" \
	&& exit $$status

lint:
	@t/deps -n $$(t/packages t/lint) \
	    || { echo 'make deps-lint installs that' >&2; exit 1; }
	@t/lint

fuzz: deps-fuzz
	@$(MAKE) --no-print-directory module
	@$(MAKE) --no-print-directory -C t/fuzz -f GNUmakefile run \
	    BUILD=$(BUILD)/fuzz SECONDS=$(SECONDS)
	@BUILD=$(BUILD) MODULE=$(SO) PATH=$(dir $(NGINX)):$$PATH \
	    SECONDS=$(SECONDS) SANITIZE=$(SANITIZE) t/run t/320-server.t

bench: deps-bench module
	@BUILD=$(BUILD) MODULE=$(SO) PATH=$(dir $(NGINX)):$$PATH t/bench/run

# the port is checked before anything is installed

demo:
	@conf/demo/run.sh check
	@$(MAKE) --no-print-directory deps-demo
	@$(MAKE) --no-print-directory module
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
	@rm -rf $(BUILD) t/servroot t/servroot_* compile_commands.json


# set last: bash would print a warning about an unknown locale in each $(shell)

SHELL = /bin/bash
