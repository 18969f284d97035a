# The few commands a contributor needs. `make demo` and `make test` work on a bare Debian machine that has
# a Rust toolchain; they install what is missing and say so.

.DEFAULT_GOAL := help
.PHONY: help demo test bench bench-load bench-idle lint tools

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: tools ## the whole system on this machine, without an account
	cargo run --locked --features demo -- demo

test: tools ## all tests, those over a real Postgres included
	cargo test --locked --features demo

bench: tools ## the whole path against the raw upsert of the same rows; ten minutes with the build
	cargo bench --locked --features demo --bench replay

bench-load: tools ## a table of a million items loaded beside its stream, against the raw insert and a COPY
	cargo bench --locked --features demo --bench replay -- --load 1000000

bench-idle: tools ## what a thousand shards without a record cost the daemon and Postgres
	cargo bench --locked --features demo --bench replay -- --idle-only --idle-shards 1000

lint: ## format, clippy and documentation, warnings being errors
	cargo fmt --check
	cargo clippy --locked --all-targets --features demo -- -D warnings
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --features demo --document-private-items

tools:
	@sh scripts/install-test-tools.sh
