# rdmamig - see `make help`. One makefile, everything it makes is under build/.

VERSION   := 0.1.0
SO_MAJOR  := 0
B         ?= build
PREFIX    ?= /usr/local
LIBDIR    ?= $(PREFIX)/lib
DESTDIR   ?=
DEPS      ?= yes
V         ?= 0
WERROR    ?= $(if $(CI),yes,no)
SANITIZE  ?=

CC        ?= gcc
ifeq ($(origin CC),default)
CC        := gcc
endif
AR        ?= ar
CXX       ?= g++

Q         := $(if $(filter 1,$(V)),,@)
say       = $(if $(filter 1,$(V)),@:,@printf '  %-7s %s\n' $(1) $(2))

WARN      := -Wall -Wextra -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2 \
             -Wno-format-nonliteral $(if $(filter yes,$(WERROR)),-Werror)
OPT       ?= -O2 -g
CPPFLAGS  += -D_GNU_SOURCE -DRDMAMIG_VERSION='"$(VERSION)"' -I$(B)/include -Iinclude -I.
CFLAGS    += -std=gnu11 $(OPT) $(WARN) -fPIC -pthread $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer)
LDFLAGS   += -pthread $(if $(SANITIZE),-fsanitize=$(SANITIZE))
LIB_LIBS  := -lcrypto
CLI_LIBS  := -ljson-c

LIB_DIRS  := base ram wire transport multifd migration
LIB_SRC   := $(sort $(foreach d,$(LIB_DIRS),$(wildcard $(d)/*.c)))
CLI_SRC   := $(sort $(wildcard vmm/*.c cli/*.c))
UNIT_SRC  := $(sort $(wildcard tests/unit/test_*.c))
HEADERS   := $(sort $(wildcard include/rdmamig/*.h))

LIB_OBJ   := $(LIB_SRC:%.c=$(B)/obj/%.o)
CLI_OBJ   := $(CLI_SRC:%.c=$(B)/obj/%.o)
UNIT_BIN  := $(UNIT_SRC:tests/unit/%.c=$(B)/tests/%)

STATIC    := $(B)/librdmamig.a
SHARED    := $(B)/librdmamig.so.$(VERSION)
TOOL      := $(B)/rdmamig
PC        := $(B)/librdmamig.pc

.DEFAULT_GOAL := all
.PHONY: all help demo check check-fast check-long install clean unit-tests docs FORCE

all: $(TOOL) $(STATIC) $(SHARED) $(PC) ## build the command and the library (default)

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(MAKEFILE_LIST) | sort | awk -F'\t' '{ printf "  make %-12s %s\n", $$1, $$2 }'
	@echo "Variables: V=1 (show commands)  CC=clang  SANITIZE=address,undefined  WERROR=yes  DEPS=no (install nothing)"
	@echo "           B=dir (build elsewhere)  PREFIX=/usr/local  LIBDIR  DESTDIR"

# Compiling. A change of flags rebuilds: they are kept in a file.
$(B)/flags: FORCE
	@mkdir -p $(@D); echo '$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS)' | cmp -s - $@ || echo '$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS)' > $@

$(B)/obj/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(STATIC): $(LIB_OBJ)
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(SHARED): $(LIB_OBJ) librdmamig.map
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -shared -Wl,-soname,librdmamig.so.$(SO_MAJOR) -Wl,--version-script=librdmamig.map -Wl,-z,defs \
		-o $@ $(LIB_OBJ) $(LIB_LIBS)
	$(Q)ln -sf $(@F) $(B)/librdmamig.so.$(SO_MAJOR) && ln -sf $(@F) $(B)/librdmamig.so

$(TOOL): $(CLI_OBJ) $(STATIC)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $(CLI_OBJ) $(STATIC) $(LIB_LIBS) $(CLI_LIBS)

$(PC): FORCE
	@mkdir -p $(@D)
	@printf 'prefix=%s\nlibdir=%s\nincludedir=$${prefix}/include\n\nName: librdmamig\nDescription: live migration of VM memory over RDMA or TCP\nVersion: %s\nLibs: -L$${libdir} -lrdmamig\nLibs.private: -lcrypto -pthread\nCflags: -I$${includedir}\n' \
		'$(PREFIX)' '$(LIBDIR)' '$(VERSION)' > $@

# Tests.
$(B)/tests/%: tests/unit/%.c $(STATIC) $(B)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -MMD -MP -MF $@.d -o $@ $< $(filter %.o,$^) $(STATIC) $(LIB_LIBS) $(CLI_LIBS) -lcmocka

# The process driver, guardian and drive loop are tested without the command around them.
VMM_OBJ   := $(patsubst %.c,$(B)/obj/%.o,$(wildcard vmm/*.c))
$(filter $(B)/tests/test_vmm_%,$(UNIT_BIN)): $(VMM_OBJ)

unit-tests: $(UNIT_BIN)

$(B)/generate: docs/generate.c $(STATIC) $(B)/flags
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $< $(STATIC) $(LIB_LIBS)

docs: $(B)/generate ## refresh the generated part of docs/protocol.md
	$(Q)$(B)/generate > $(B)/messages.md
	$(Q)sed -i -e '/^<!-- generated: messages -->$$/,/^<!-- end -->$$/{//!d}' \
		-e '/^<!-- generated: messages -->$$/r $(B)/messages.md' docs/protocol.md

# The two commands of the README, and their kin. Packages first: then make again, as headers may only now be there.
AGAIN     := $(MAKE) --no-print-directory

demo: ## install what is missing, build, migrate a live 1 GiB guest and compare every byte
	@DEPS=$(DEPS) tests/deps.sh build
	@$(AGAIN) all
	$(TOOL) bench auto --size 1G --fill random --dirty-rate 100M

check: ## install what is missing, build, run the tests (12 minutes at most)
	@DEPS=$(DEPS) tests/deps.sh test
	@$(AGAIN) all unit-tests
	@B=$(B) tests/run.sh check

check-fast: ## static checks and unit tests only
	@DEPS=$(DEPS) tests/deps.sh test
	@$(AGAIN) all unit-tests
	@B=$(B) tests/run.sh fast

check-long: ## the full matrices, kills and soaks
	@DEPS=$(DEPS) tests/deps.sh test
	@$(AGAIN) all unit-tests
	@B=$(B) tests/run.sh long

install: all ## install under DESTDIR/PREFIX
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(PREFIX)/include/rdmamig $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 755 $(TOOL) $(DESTDIR)$(PREFIX)/bin/
	install -m 644 $(STATIC) $(DESTDIR)$(LIBDIR)/
	install -m 755 $(SHARED) $(DESTDIR)$(LIBDIR)/
	ln -sf librdmamig.so.$(VERSION) $(DESTDIR)$(LIBDIR)/librdmamig.so.$(SO_MAJOR)
	ln -sf librdmamig.so.$(SO_MAJOR) $(DESTDIR)$(LIBDIR)/librdmamig.so
	install -m 644 $(PC) $(DESTDIR)$(LIBDIR)/pkgconfig/
	install -m 644 $(HEADERS) $(DESTDIR)$(PREFIX)/include/rdmamig/
	install -m 644 $(wildcard docs/man/*.1) $(DESTDIR)$(PREFIX)/share/man/man1/

clean: ## remove build/
	rm -rf $(B)

-include $(LIB_OBJ:.o=.d) $(CLI_OBJ:.o=.d) $(UNIT_BIN:=.d)
