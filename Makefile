# `make test` runs all tests, `make lint` all checks; each installs what it needs itself.
CARGO ?= cargo

.PHONY: setup test lint

# No shell expansion of a toolchain here: rust-toolchain.toml names it, and rustup adds the guests' target to it.
setup:
	@rustup target list --installed | grep -qx wasm32-unknown-unknown || rustup target add wasm32-unknown-unknown

test: setup
	$(CARGO) test --workspace --locked

lint: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	@! $(CARGO) tree --workspace --locked -e features -i wasmtime | grep -q component-model-async || { echo "component-model-async is on: every call into a plugin costs five times as much"; exit 1; }
