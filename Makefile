# Two commands matter: `make quickstart` shows the program at work, `make test` passes every test.
# Both build with one profile and one set of features, into the user's cache folder.

.PHONY: quickstart test test-warehouses test-sdk test-deploy test-release test-browser soak soak-daemons storm lint bench bench-mirrors bench-peers bench-scale bench-warehouses build release doc site
SHELL := /bin/sh

# The processor of a release's packages, where it is not this machine's: aarch64 or x86_64.
TARGET =

quickstart:
	@. .ci/env; cargo build $$features --bin groupcast --example receiver --example sql && \
	sh examples/quickstart/run.sh "$$CARGO_TARGET_DIR/debug"

test:
	@.ci/postgres
	@.ci/drivers
	@. .ci/env; cargo fmt --check && cargo test $$features --no-fail-fast

# What we send, compared with what the vendors' official SDKs send. Needs Python 3.11, Node and both package registries.
test-sdk:
	@. .ci/env; cargo build $$features --bins --example sql && tests/sdk/run.sh "$$CARGO_TARGET_DIR/debug"

# The conformance of sources (tests/it/sources), and of mirrors, at engines that CI cannot start in its time: Spark's dialect at
# Sail, Snowflake's driver at fakesnow, chDB; and of sources through DuckDB's extensions S3, DuckLake, Delta, MariaDB, PostgreSQL and SQLite. Needs Python
# 3.11 and its package registry, MariaDB and a C compiler; about three minutes, once the packages are there.
test-warehouses:
	@.ci/postgres
	@. .ci/env; cargo build $$features --bins --example reader && tests/warehouses/run.sh "$$CARGO_TARGET_DIR/debug" \
		cargo test $$features --test it sources::external -- --ignored --test-threads 2

# How fast these engines are read, against the driver or DuckDB alone: the table of docs/warehouses.md. WAREHOUSE_ROWS scales it.
WAREHOUSE_ROWS = 1000000
bench-warehouses:
	@. .ci/env; cargo build $$features --release --bins --example reader && tests/warehouses/run.sh "$$CARGO_TARGET_DIR/release" \
		tests/warehouses/throughput.sh "$$CARGO_TARGET_DIR/release/groupcast" $(WAREHOUSE_ROWS)

# Comparing in the warehouse against comparing here, measured and drawn: docs/mirror.json and docs/mirror-*.svg. PostgreSQL, and
# Sail as a cluster of four workers; the largest of SIZES takes 10 GB of disk. ENGINE_SIZE is chDB's.
ENGINE_SIZE = 1000000
bench-mirrors:
	@.ci/postgres
	@. .ci/env; cargo build $$features --release --bins --example reader --example bench && \
	measure() { tests/warehouses/run.sh "$$CARGO_TARGET_DIR/release" "$$cache/warehouses/bin/python" tests/warehouses/mirrors.py \
		"$$CARGO_TARGET_DIR/release/groupcast" --runs $(RUNS) --json docs/mirror.json "$$@"; } && \
	measure --sizes $(SIZES) postgresql sail && measure --sizes $(ENGINE_SIZE) clickhouse && measure --sizes 100000 snowflake && \
	for engine in postgresql sail; do \
		"$$CARGO_TARGET_DIR/release/examples/bench" plot-mirrors docs/mirror.json $$engine docs/mirror-$$engine.svg || exit 1; \
	done

# What examples/deploy ships, with the tools that would read it. Needs Python 3.11, jq, curl, systemd-analyze and root.
test-deploy:
	@. .ci/env; cargo build $$features --bins && tests/deploy/run.sh "$$CARGO_TARGET_DIR/debug" $$features

# What a release is made of, installed and used in places of its own: the tarball, the Debian package in a fresh Debian, the wheel
# by pip, uv and pipx, the image as its user. From the build that tests use; PACKED=1 tries what `make release` made, on three
# releases of Debian, and TARGET=aarch64 what it made for that processor, under qemu. Needs root, Debian's mirror and Python 3.11; two to
# five minutes.
test-release:
	@. .ci/env; if [ -n "$(PACKED)$$foreign" ]; then \
		program=$$(.ci/release/build) && tests/release/run.sh "$$program" "$$dist"; \
	else \
		cargo build $$features --bins && tests/release/run.sh "$$CARGO_TARGET_DIR/debug/groupcast"; \
	fi

# The console in a real browser, first over a desk that tells of everything, then over real daemons after a bad night:
# every page in light, dark and on a phone, held to axe-core's rules, and used; with a token, logged in and out. Needs
# Chromium, Node and the npm registry. Screenshots go to the folder SCREENSHOTS names.
test-browser:
	@. .ci/env; cargo test $$features --lib server::console::tests::browser -- --ignored --nocapture && \
	cargo test $$features --test it daemon::browser -- --ignored --nocapture --test-threads 1

# The daemon over thousands of runs with faulty receivers, a changing warehouse and many questions: counts must add up,
# memory and handles stay flat. Prints the figures. GROUPCAST_SOAK_RUNS says how many; 1,000 take about two minutes. The
# ledger's log is folded for the first time after some 1,200 runs: below 5,000, part of what grows is that.
soak:
	@.ci/postgres
	@. .ci/env; cargo test $$features --test it -- --ignored --exact --nocapture daemon::soak::a_long_soak_stays_flat

# Several daemons over one ledger in PostgreSQL, each on a machine of its own (a network namespace), that are killed, frozen and
# have their cables pulled at random, while the server is restarted and crashes: every run is accounted for, no group is in flight
# twice at a time. MINUTES (10), DAEMONS (2), SYNCS (200), SEED (1); needs root and iproute2. Then what several daemons do together
# with a slow destination.
soak-daemons:
	@.ci/postgres
	@. .ci/env; cargo test $$features --test it -- --ignored --nocapture --test-threads 1 daemon::several::soak

# Runs killed at any moment while the ledger's log is removed, older copies are restored and its bytes are damaged, with
# traits that accumulate: no group may be wrong at the end, and no run content with a wrong one. GROUPCAST_STORM_KILLS says how
# many kills (240).
storm:
	@. .ci/env; cargo test $$features --test it -- --ignored --exact --nocapture ledger_storm::a_long_storm_over_the_ledgers_files_leaves_no_group_wrong simulation::many_histories_over_postgresql_end_as_those_in_memory

# A release binary; `make build` uses the prebuilt libduckdb, `cargo build --release` compiles DuckDB in.
build:
	@. .ci/env; cargo build $$features --release && echo "$$CARGO_TARGET_DIR/release/groupcast"

# Every package of a release for this processor, with their checksums: into the folder `dist` of the build. The first one compiles
# the program for glibc 2.28, which takes about ten minutes on two cores. TARGET=aarch64 makes those of another processor, into
# `dist-aarch64`: needs rustup and qemu-user-static.
release:
	@. .ci/env; program=$$(.ci/release/build) && rm -rf "$$dist" && .ci/release/pack.py "$$program" "$$dist"

# The documentation as a site, in $(SITE). Fails where a link leads nowhere or a key has no description. Needs Python and its package registry.
SITE = site
site:
	@. .ci/env; cargo build $$features --bins && python3 -m venv "$$cache/site" && \
	"$$cache/site/bin/pip" install --quiet --disable-pip-version-check mkdocs==1.6.1 && \
	GROUPCAST_PROGRAM="$$CARGO_TARGET_DIR/debug/groupcast" "$$cache/site/bin/mkdocs" build --strict \
		-f .ci/site/mkdocs.yml -d "$(abspath $(SITE))"

lint:
	@. .ci/env; cargo fmt --check && cargo clippy $$features --all-targets -- -D warnings && \
	RUSTDOCFLAGS="-D warnings" cargo doc $$features --no-deps

# How the release build compares with the floor under it: the table of docs/performance.md, and the same as JSON. ROWS scales it
# (1,000,000 accounts take about ten minutes), ONLY=name picks rows (`list` shows them), RUNS says how often each is run.
# `make bench DOCS=1` also writes the table into the page.
ROWS = 1000000
RUNS = 3
bench:
	@.ci/postgres
	@. .ci/env; cargo build $$features --release --bins --examples && \
	if [ "$(ONLY)" = list ]; then exec "$$CARGO_TARGET_DIR/release/examples/bench" list; fi && \
	PATH="$$PATH:$$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -1)" "$$CARGO_TARGET_DIR/release/examples/bench" \
		run "$$CARGO_TARGET_DIR/release" --rows $(ROWS) --runs $(RUNS) $(addprefix --only ,$(ONLY)) --json "$$CARGO_TARGET_DIR/bench.json" && \
	{ [ -z "$(DOCS)" ] || "$$CARGO_TARGET_DIR/release/examples/bench" docs "$$CARGO_TARGET_DIR/bench.json" docs/performance.md; } && \
	echo "the figures as JSON: $$CARGO_TARGET_DIR/bench.json"

# The same accounts with other tools, at one receiver: a hand-written script, drt-core and dlt, from the Python registry.
PEER_ROWS = 100000
bench-peers:
	@. .ci/env; cargo build $$features --release --bins --examples && \
	tests/bench-peers/run.sh "$$CARGO_TARGET_DIR/release" --rows $(PEER_ROWS) --runs $(RUNS) $(addprefix --only ,$(ONLY)) \
		--json "$$CARGO_TARGET_DIR/bench-peers.json"

# Cost against size, measured and drawn: docs/performance.json and docs/performance.svg. The largest size takes 10 GB of disk.
SIZES = 10000,100000,1000000,10000000
bench-scale:
	@. .ci/env; cargo build $$features --release --bins --examples && \
	"$$CARGO_TARGET_DIR/release/examples/bench" scale "$$CARGO_TARGET_DIR/release" --sizes $(SIZES) --runs $(RUNS) \
		--json docs/performance.json && \
	"$$CARGO_TARGET_DIR/release/examples/bench" plot docs/performance.json docs/performance.svg
