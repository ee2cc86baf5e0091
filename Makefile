# One door: every verb first installs what is missing (Debian packages), then calls cargo.
#
#   make run              the demo gateway over kernel sockets
#   make run PLANE=dpdk   the same over a DPDK port (root)
#   make release          the gateway as it is shipped: compiled for the work that it does under load
#   make sim SEEDS=10000  the whole gateway under simulation, over lossy wires
#   make soak             what takes too long for make test: TLS with a card under AddressSanitizer, testssl.sh
#   make ktls-test        the kernel's TLS, in a QEMU guest whose kernel has it
#   make appliance-test   the gateway in an emulated machine, on PCI cards that DPDK drives (root)
#   make bench            Ferrogate beside its peers (root), with a report; ARGS go to ferrogate-bench run

PLANE ?= kernel
QUICK ?=
SEEDS ?= 10000
SCENARIO ?= h1-keepalive
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help run release test check sim soak ktls-test appliance-test bench profile microbench

help:
	@echo 'make run              start the demo gateway: http://127.0.0.1:8080 and https://127.0.0.1:8443, Ctrl-C ends it'
	@echo 'make run PLANE=dpdk   the same over a DPDK port on a veth pair (root)'
	@echo 'make release          the gateway as it is shipped, compiled for the work that it does under load, a quarter of an hour; its path is the last line'
	@echo 'make test             everything that CI runs'
	@echo 'make check            formatting and lints only'
	@echo 'make sim SEEDS=10000  the whole gateway under simulation, over lossy wires; a seed that fails is told'
	@echo 'make soak             what takes too long for make test: TLS with a card under AddressSanitizer, testssl.sh'
	@echo 'make ktls-test        TLS records sealed by the kernel (kTLS), in a QEMU guest: Debian'"'"'s kernel, no root'
	@echo 'make appliance-test   the gateway in an emulated machine, on PCI cards that DPDK drives, two minutes (root)'
	@echo 'make bench            Ferrogate beside nginx and HAProxy, about 34 minutes and the release that it measures (root); make bench QUICK=1 under two'
	@echo 'make profile SCENARIO=h1-keepalive   a flame graph of the gateway under a scenario'
	@echo 'make microbench       the parts that every request passes, each by itself'

run:
	@configs/packaging/run.sh $(PLANE)

release:
	@configs/packaging/release.sh

test:
	@configs/packaging/test.sh test

check:
	@configs/packaging/test.sh check

sim:
	@configs/packaging/test.sh sim $(SEEDS)

soak:
	@configs/packaging/test.sh soak

ktls-test:
	@tests/ktls/guest.sh

appliance-test:
	@configs/packaging/appliance-test.sh

bench:
	@configs/packaging/bench.sh run $(if $(QUICK),--quick) $(ARGS)

profile:
	@configs/packaging/bench.sh profile $(SCENARIO) $(ARGS)

microbench:
	@configs/packaging/bench.sh micro
