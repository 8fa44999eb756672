# `make demo` shows what it does, `make test` runs all tests, `make bench` compares with peers, `make lint` checks the code.
# Each installs what it needs itself.
CARGO ?= cargo

# Seconds for each fuzz target: enough to see that it runs. `make fuzz FUZZ_SECONDS=600` looks for something.
FUZZ_SECONDS ?= 3
FUZZ_TARGETS = $(basename $(notdir $(wildcard tests/fuzz/fuzz_targets/*.rs)))

.PHONY: setup build demo test test-tools bench bench-tools fuzz fuzz-tools lint

# No shell expansion of a toolchain here: rust-toolchain.toml names it, and rustup adds the guests' target to it.
setup:
	@rustup target list --installed | grep -qx wasm32-unknown-unknown || rustup target add wasm32-unknown-unknown

build: setup
	$(CARGO) build --release --locked --package sluicegate --package sluicegate-bench

demo: build
	target/release/sluicegate demo

test: setup test-tools
	$(CARGO) test --workspace --locked
	$(MAKE) fuzz

# Peers of tests that share no code with the gateway, and what the balancer in C is built with (sdk/examples/c).
test-tools:
	@missing=; PATH="$$PATH:/usr/sbin"; for tool in curl h2load openssl dnsmasq clang wasm-ld; do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	[ -e "$${WASI_SYSROOT:-/usr}/lib/wasm32-wasi/libc.a" ] || missing="$$missing wasi-libc"; \
	if [ -n "$$missing" ]; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -q && apt-get install -qy --no-install-recommends curl nghttp2-client openssl dnsmasq-base clang lld wasi-libc; \
		else echo "missing:$$missing; install them, or run as root where apt-get is"; exit 1; fi; \
	fi

# Coverage without sanitizers, so that the stable toolchain will do: the code has no `unsafe` of its own.
fuzz: fuzz-tools
	$(CARGO) fuzz build --fuzz-dir tests/fuzz --sanitizer none
	@for target in $(FUZZ_TARGETS); do \
		mkdir -p tests/fuzz/corpus/$$target; \
		seeds=tests/fuzz/seeds/$$target; [ $$target != configuration ] || seeds="$$seeds gateway/model/tests/faults config/examples"; \
		$(CARGO) fuzz run --fuzz-dir tests/fuzz --sanitizer none $$target tests/fuzz/corpus/$$target $$seeds \
			-- -max_total_time=$(FUZZ_SECONDS) -timeout=30 -rss_limit_mb=2048 -verbosity=0 -print_funcs=0 -print_final_stats=1 || exit 1; \
	done

# libFuzzer is C++.
fuzz-tools:
	@$(CARGO) fuzz --version >/dev/null 2>&1 || $(CARGO) install cargo-fuzz --version 0.13.2 --locked
	@if ! command -v c++ >/dev/null; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -q && apt-get install -qy --no-install-recommends g++; \
		else echo "missing: c++; install it, or run as root where apt-get is"; exit 1; fi; \
	fi

bench: build bench-tools
	target/release/sluicegate-bench

# nginx and HAProxy are the peers, wrk and h2load make the load.
bench-tools:
	@missing=; for tool in nginx haproxy wrk h2load taskset; do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	ls /usr/lib/nginx/modules/ngx_stream_module.so /usr/share/nginx/modules/ngx_stream_module.so 2>/dev/null | grep -q . || missing="$$missing libnginx-mod-stream"; \
	if [ -n "$$missing" ]; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -q && apt-get install -qy --no-install-recommends nginx libnginx-mod-stream haproxy wrk nghttp2-client util-linux; \
		else echo "missing:$$missing; install them, or run as root where apt-get is"; exit 1; fi; \
	fi

lint: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" $(CARGO) doc --workspace --no-deps --document-private-items --locked
	@! $(CARGO) tree --workspace --locked -e features -i wasmtime | grep -q component-model-async || { echo "component-model-async is on: every call into a plugin costs five times as much"; exit 1; }
