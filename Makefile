# One door: every verb first installs what is missing (Debian packages), then calls cargo.
#
#   make run              the demo gateway over kernel sockets
#   make run PLANE=dpdk   the same over a DPDK port (root)

PLANE ?= kernel

.DEFAULT_GOAL := help
.PHONY: help run test check bench

help:
	@echo 'make run              start the demo gateway: http://127.0.0.1:8080 and https://127.0.0.1:8443, Ctrl-C ends it'
	@echo 'make run PLANE=dpdk   the same over a DPDK port on a veth pair (root)'
	@echo 'make test             everything that CI runs'
	@echo 'make check            formatting and lints only'
	@echo 'make bench            the benches, measured'

run:
	@configs/packaging/run.sh $(PLANE)

test:
	@configs/packaging/test.sh test

check:
	@configs/packaging/test.sh check

bench:
	@configs/packaging/test.sh bench
