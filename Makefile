# evstore: build, install, test.  "make help" lists the targets.
#
# Without PostgreSQL's development files only the targets below that install
# them first work; everything else is PGXS as usual.

EXTENSION = evstore
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" evstore.control)

# --- what is built ---

MODULE_big = evstore
PGFILEDESC = "evstore - event store"
SOURCES := $(sort $(filter-out src/sinks/%,$(wildcard src/*.c src/*/*.c)))
OBJS = $(SOURCES:.c=.o)

PG_CPPFLAGS = -I$(CURDIR)/src -DEVS_VERSION=\"$(EXTVERSION)\"
PG_CFLAGS = -Wall -Wextra -Wmissing-prototypes -Wno-unused-parameter \
	-Wno-missing-field-initializers -Wno-sign-compare -MMD -MP

# Modules 10 to 40, and those named _once, run once; 50 to 90 again on every update.
SQL_MODULES := $(sort $(wildcard sql/modules/*.sql))
SQL_AGAIN := $(filter-out %_once.sql, \
	$(foreach n,5 6 7 8 9,$(filter sql/modules/$(n)%,$(SQL_MODULES))))
SQL_INSTALL = sql/evstore--$(EXTVERSION).sql
SQL_UPDATES := $(patsubst sql/updates/%,sql/evstore--%,$(wildcard sql/updates/*.sql))
DATA_built = $(SQL_INSTALL) $(SQL_UPDATES)

# Sink modules are libraries of their own, without PostgreSQL, each built where the
# library it needs is found.  NAME is evstore_sink_NAME.c and all NAME_*.c, and what it
# shares with others.  A directory for its library: SINK_CFLAGS_http, SINK_LIBS_http.
HEADERS_evstore = src/include/evstore_sink.h
PKG_CONFIG ?= pkg-config
SINK_PACKAGES_http = libcurl >= 7.87 libcrypto
SINK_PACKAGES_kafka = rdkafka >= 2.0
$(foreach s,amqp mqtt nats redis,$(eval SINK_PACKAGES_$(s) = libssl libcrypto))
SINK_PACKAGES_postgres = libpq
SINK_CLIENT = $(addprefix src/sinks/sink_,flight.o claim.o link.o link_config.o resolve.o tls.o)
SINK_OBJS_amqp = $(SINK_CLIENT)
SINK_OBJS_http = src/sinks/sink_json.o
SINK_OBJS_kafka = src/sinks/sink_flight.o src/sinks/sink_resolve.o
SINK_OBJS_mqtt = $(SINK_CLIENT)
SINK_OBJS_nats = $(SINK_CLIENT) src/sinks/sink_json.o
SINK_OBJS_redis = $(SINK_CLIENT)
SINK_OBJS_postgres = src/sinks/sink_resolve.o src/sinks/sink_json.o
# Threads must not lose their code when the module is closed.
SINK_LDFLAGS_http = -Wl,-z,nodelete
SINK_LDFLAGS_kafka = -Wl,-z,nodelete
sink_is_possible = $(or $(SINK_LIBS_$(1)),$(if $(SINK_PACKAGES_$(1)),$(shell \
	$(PKG_CONFIG) --exists '$(SINK_PACKAGES_$(1))' 2>/dev/null && echo yes),yes))
SINKS := $(foreach s,$(sort $(patsubst src/sinks/evstore_sink_%.c,%,$(wildcard src/sinks/evstore_sink_*.c))), \
	$(if $(call sink_is_possible,$(s)),$(s)))
SINK_MODULES = $(SINKS:%=src/sinks/evstore_sink_%.so)
SINK_UTIL = src/sinks/sink_util.o

# --- make installcheck, for those who have a server running ---

REGRESS = $(sort $(patsubst test/sql/%.sql,%,$(wildcard test/sql/*.sql)))
REGRESS_OPTS = --inputdir=test
ISOLATION = $(sort $(patsubst test/isolation/specs/%.spec,%,$(wildcard test/isolation/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test/isolation
PROVE_TESTS = $(sort $(wildcard test/t/*.pl))
TAP_TESTS = $(if $(PROVE_TESTS),1)

EXTRA_CLEAN = $(OBJS:.o=.d) src/sinks/*.o src/sinks/*.d src/sinks/*.so .build_flags \
	test/tools/*.o test/tools/*.d $(TEST_TOOLS) $(BENCH_TOOLS) results output_iso tmp_check tmp_check_iso \
	regression.diffs regression.out \
	$(filter-out tmp_roots,$(patsubst %/,%,$(wildcard tmp_*/)))

all:

# --- PostgreSQL ---

PG_CONFIG ?= $(firstword $(wildcard /usr/lib/postgresql/15/bin/pg_config) $(shell command -v pg_config))
PGXS := $(if $(PG_CONFIG),$(wildcard $(shell $(PG_CONFIG) --pgxs 2>/dev/null)))

# Bitcode would need clang, and there is nothing here worth inlining into a query.
ifneq ($(origin with_llvm),command line)
override with_llvm = no
endif

ifneq ($(PGXS),)
include $(PGXS)
-include $(OBJS:.o=.d)
endif

# The tools take it from the environment; not set at all means "look for it".
ifneq ($(PG_CONFIG),)
export PG_CONFIG
endif

# --- build rules ---

# Other flags, another server or another list of files: build everything again.
BUILD_FLAGS = $(VERSION) $(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) $(OBJS)

.build_flags: FORCE
	@echo '$(subst ','\'',$(BUILD_FLAGS))' | cmp -s - $@ || \
		echo '$(subst ','\'',$(BUILD_FLAGS))' >$@

$(OBJS): .build_flags

sink_flags = $(CFLAGS) -fPIC -fvisibility=hidden -std=gnu99 -Isrc/include -MMD -MP \
	$(or $(SINK_CFLAGS_$(1)),$(if $(SINK_PACKAGES_$(1)),$(shell $(PKG_CONFIG) --cflags '$(SINK_PACKAGES_$(1))')))
sink_libs = $(or $(SINK_LIBS_$(1)),$(if $(SINK_PACKAGES_$(1)),$(shell $(PKG_CONFIG) --libs '$(SINK_PACKAGES_$(1))')))

sink_parts = $(patsubst %.c,%.o,$(sort $(wildcard src/sinks/$(1)_*.c))) $(SINK_OBJS_$(1))

# nats_tls.o and evstore_sink_nats.o are of the sink nats.
src/sinks/%.o: src/sinks/%.c .build_flags
	$(CC) $(call sink_flags,$(firstword $(subst _, ,$(*:evstore_sink_%=%)))) -c -o $@ $<

.SECONDEXPANSION:
# Static: PGXS has a rule that makes a library of one object, if that is all there is.
$(SINK_MODULES): src/sinks/evstore_sink_%.so: src/sinks/evstore_sink_%.o $$(call sink_parts,$$*) $(SINK_UTIL)
	$(CC) $(CFLAGS) -shared -pthread -Wl,--no-undefined -o $@ $^ $(LDFLAGS) $(SINK_LDFLAGS_$*) $(call sink_libs,$*) -ldl

-include $(wildcard src/sinks/*.d)

# What drives sink modules in tests, and a module for tests of hosts: not installed.
HARNESS_OBJS = $(patsubst %.c,%.o,$(sort $(wildcard test/tools/harness_*.c)) test/tools/sink_harness.c)
TEST_TOOLS = test/tools/sink_harness test/tools/sink_send test/tools/evstore_sink_double.so test/tools/evstore_sink_gated.so \
	$(if $(filter http,$(SINKS)),test/tools/aws_sign)

tool_flags = -O2 -g -Wall -Wextra $(COPT) -fPIC -fvisibility=hidden -std=gnu99 -Isrc/include -MMD -MP

test/tools/%.o: test/tools/%.c .build_flags
	$(CC) $(tool_flags) -c -o $@ $<

test/tools/sink_harness: $(HARNESS_OBJS)
	$(CC) -o $@ $^ -ldl

test/tools/sink_send: test/tools/sink_send.o
	$(CC) -o $@ $^ -ldl

# A part of the http sink by itself.
test/tools/aws_sign.o: tool_flags += -Isrc/sinks
test/tools/aws_sign: test/tools/aws_sign.o src/sinks/http_sigv4.o src/sinks/http_text.o src/sinks/sink_json.o $(SINK_UTIL)
	$(CC) -o $@ $^ $(call sink_libs,http)

test/tools/evstore_sink_gated.o: test/tools/evstore_sink_double.c .build_flags
	$(CC) $(tool_flags) -DGATED -c -o $@ $<

test/tools/evstore_sink_%.so: test/tools/evstore_sink_%.o
	$(CC) -shared -o $@ $^ -lpthread

test-tools: $(TEST_TOOLS)

# What the http sink is measured against.
BENCH_TOOLS = test/bench/http_server $(if $(filter http,$(SINKS)),test/bench/http_client)

test/bench/http_%: test/bench/http_%.c
	$(CC) -O2 -Wall -Wextra -std=gnu99 -o $@ $< $(if $(filter client,$*),$(SINK_CFLAGS_http) $(call sink_libs,http))

installcheck: test-tools

-include $(wildcard test/tools/*.d)

all: $(SINK_MODULES)

install: install-sinks

install-sinks: $(SINK_MODULES) | installdirs
	$(if $(SINK_MODULES),$(INSTALL_SHLIB) $(SINK_MODULES) '$(DESTDIR)$(pkglibdir)/')

uninstall: uninstall-sinks

uninstall-sinks:
	rm -f $(SINKS:%='$(DESTDIR)$(pkglibdir)/evstore_sink_%.so')

SQL_HEAD = \echo Use "$(1)" to load this file. \quit

# sql/modules itself is a prerequisite so that a removed module is noticed.
# The modules say OR REPLACE because updates run them again; an install must
# not take over what is there already.
$(SQL_INSTALL): $(SQL_MODULES) sql/modules evstore.control
	@{ printf '%s\n' '$(call SQL_HEAD,CREATE EXTENSION evstore)'; cat /dev/null $(SQL_MODULES); } | \
		sed 's/^CREATE OR REPLACE /CREATE /' >$@.new && mv $@.new $@

# An update script is its own step and, when it leads to the current version,
# the modules that run again.
sql/evstore--%.sql: sql/updates/%.sql $(SQL_AGAIN) sql/modules
	@{ printf '%s\n' '$(call SQL_HEAD,ALTER EXTENSION evstore UPDATE)'; \
		cat sql/modules/00_header.sql $< $(if $(filter %--$(EXTVERSION),$*),$(SQL_AGAIN)); } >$@.new && mv $@.new $@

# --- tests and tools ---

TOOLS = test/tools

ifneq ($(PGXS),)

test: setup
	@$(TOOLS)/run_tests.sh style regress isolation pgtap tap

test-regress test-isolation test-pgtap test-tap: test-%: setup
	@$(TOOLS)/run_tests.sh $*

check-style: setup
	@$(TOOLS)/run_tests.sh style

demo: setup
	@EVS_PRELOAD=$${EVS_PRELOAD-evstore} $(TOOLS)/with_server.sh -n demo test/demo/demo.sh

bench: setup $(BENCH_TOOLS)
	@test/bench/run.sh

bench-peers: setup
	@test/bench/peers.sh

indent:
	@$(TOOLS)/indent.sh

else

# Install what is missing, then start again with it.
test test-regress test-isolation test-pgtap test-tap check-style demo bench bench-peers indent: setup
	@$(MAKE) --no-print-directory $@ PG_CONFIG="$$($(TOOLS)/setup.sh --pg-config)"

all install installcheck clean:
	@echo 'PostgreSQL development files not found: run "make setup", or set PG_CONFIG' >&2; exit 1

endif

setup:
	@$(TOOLS)/setup.sh

test-versions:
	@$(TOOLS)/versions.sh $(VERSIONS)

ack:
	@$(TOOLS)/ack.sh

lint:
	@$(TOOLS)/lint.sh

help:
	@sed -n 's/^# HELP //p' Makefile

# HELP make                 build the extension (set PG_CONFIG to choose the server)
# HELP make install         install it into that server
# HELP make installcheck    run the tests against a server that is running already
# HELP make setup           install the Debian packages that building and testing need
# HELP make demo            a guided tour on a private server
# HELP make test            all tests, on a private server
# HELP make test-regress, test-isolation, test-pgtap, test-tap, check-style
# HELP                      one suite; TESTS="a b" runs only the tests of these names
# HELP make test-tools      the harness that tests sink modules, in test/tools
# HELP make test-versions   the tests on other PostgreSQL versions (VERSIONS="17 18")
# HELP make ack             take the results of the last run as expected ones; review them first
# HELP make bench           measure; make bench-peers compares with other systems
# HELP make indent          format the C code as PostgreSQL does
# HELP make lint            static analysis
# HELP make clean           remove everything generated, except the roots of test-versions

FORCE:
.PHONY: all setup demo test test-tools test-regress test-isolation test-pgtap test-tap test-versions \
	bench bench-peers ack indent lint check-style help FORCE
