# kvscope: `make help` lists the targets. Everything is built in $(B); nothing generated is committed.
B ?= build
PREFIX ?= /usr/local
SAN ?=
V ?= 0
Q := $(if $(filter 1,$(V)),,@)
export LC_ALL := C

# --- tools and libraries --------------------------------------------------------------------------------------------
CC ?= cc
CXX ?= c++
NVCC ?= $(or $(shell command -v nvcc 2>/dev/null),$(wildcard /usr/local/cuda/bin/nvcc))
CUDA ?= $(if $(NVCC),1,0)
CUDA_ARCHS ?= 80 90
PKG_CONFIG ?= pkg-config
# Only the headers of CUPTI 13 are needed to build: the library is loaded at run time (analysis/cupti).
CUDA_INCLUDES = $(if $(NVCC),$(dir $(NVCC))../include) /usr/local/cuda/include
CUPTI_INCLUDE = $(patsubst %/cupti_range_profiler.h,%,$(firstword $(wildcard $(CUDA_INCLUDES:%=%/cupti_range_profiler.h))))
CUPTI ?= $(if $(CUPTI_INCLUDE),1,0)
HDF5 = $(shell $(PKG_CONFIG) --exists hdf5-serial 2>/dev/null && echo hdf5-serial || echo hdf5)
PACKAGES = $(HDF5) libcjson libcrypto openblas libpcre2-8
PYTHON ?= $(shell for p in /usr/bin/python3 python3; do $$p -c 'import h5py, numpy' 2>/dev/null && { echo $$p; break; }; done)

WARN := -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wpointer-arith -Wcast-qual
CPPFLAGS += -I. -MMD -MP -D_GNU_SOURCE $(shell $(PKG_CONFIG) --cflags $(PACKAGES) 2>/dev/null | sed 's/-I/-isystem /g')
# No contraction and no fast math: what defines codes and metadata must not depend on the compiler (kernels/affine.h).
ARITHMETIC := -ffp-contract=off -fno-math-errno -fno-trapping-math
CFLAGS += -std=c11 -O3 -g -fPIC -fopenmp $(ARITHMETIC) $(WARN) -Wstrict-prototypes
LDLIBS = $(shell $(PKG_CONFIG) --libs $(PACKAGES) 2>/dev/null) -lm -lpthread
LDFLAGS += -fopenmp
# Kernels and their tests also compile for the SIMT runtime of the host (kernels/simt); they need no C++ library.
CXXFLAGS += -std=c++17 -O2 -g -fPIC -fopenmp $(ARITHMETIC) -fno-exceptions -fno-rtti -Wall -Wextra -Wshadow -Wno-unknown-pragmas
ifneq ($(SAN),)
CXXFLAGS += -fsanitize=$(SAN) -fno-sanitize=vptr -fno-omit-frame-pointer -fno-sanitize-recover=all -DKVS_NO_CLONES
CFLAGS += -fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all -DKVS_NO_CLONES
LDFLAGS += -fsanitize=$(SAN)
endif

# --- what is built --------------------------------------------------------------------------------------------------
FRONT   := sim/main.c sim/options.c $(wildcard sim/commands/*.c)
ROOMS   := core traces kernels kernels/schemes kernels/rankings kernels/layouts kernels/simt sim sim/model analysis \
           analysis/metrics plots $(if $(filter 1,$(CUPTI)),analysis/cupti)
SOURCES := $(filter-out $(FRONT),$(foreach room,$(ROOMS),$(wildcard $(room)/*.c)))
SOURCES := $(filter-out analysis/cupti/inject.c,$(SOURCES))
KERNELS := $(wildcard kernels/*.cu kernels/cuda/*.cu)
KERNEL_SOURCES := $(sort $(KERNELS) $(wildcard kernels/cuda/*.cuh kernels/layouts/*.[ch]) kernels/layout.c kernels/layout.h)
HEADERS := $(foreach room,$(ROOMS),$(wildcard $(room)/*.h))
OBJECTS := $(SOURCES:%.c=$(B)/%.o) $(KERNELS:%.cu=$(B)/host/%.o)
ifeq ($(CUDA),1)
CPPFLAGS += -DKVS_HAVE_CUDA=1
NVFLAGS += -std=c++17 -O3 -lineinfo -fmad=false -I. $(foreach a,$(CUDA_ARCHS),-gencode arch=compute_$(a),code=sm_$(a)) \
           -gencode arch=compute_$(lastword $(CUDA_ARCHS)),code=compute_$(lastword $(CUDA_ARCHS)) \
           -Xcompiler -fPIC,-ffp-contract=off
OBJECTS += $(KERNELS:%.cu=$(B)/%.cu.o) $(patsubst %.c,$(B)/%.o,$(wildcard kernels/cuda/*.c))
CPPFLAGS += -isystem $(dir $(NVCC))../include
LDLIBS += $(if $(KERNELS),-L$(dir $(NVCC))../lib64 -lcudart_static -lstdc++ -ldl -lrt)
endif
ifeq ($(CUPTI),1)
# Its host header includes <string>, which C lacks and C++ finds before the empty one.
CPPFLAGS += -DKVS_HAVE_CUPTI=1 -isystem $(CUPTI_INCLUDE) -idirafter $(B)/include
LDLIBS += -ldl
FAKES := $(B)/tests/fake/libcupti.so $(B)/tests/fake/program
INJECT := $(B)/libkvscope_inject.so
endif
SUITES := unit golden oracle parity fuzz
TESTS  := $(foreach suite,$(SUITES),$(wildcard tests/$(suite)/test_*.c))
TEST_PROGRAMS := $(TESTS:%.c=$(B)/%) $(patsubst %.cu,$(B)/%,$(foreach suite,$(SUITES),$(wildcard tests/$(suite)/test_*.cu)))

all: $(B)/kvscope $(B)/libkvscope.a $(B)/libkvscope.so $(INJECT) ## build the program and the library

FLAGS = $(CC) $(CPPFLAGS) $(CFLAGS) $(CXX) $(CXXFLAGS) $(if $(filter 1,$(CUDA)),$(NVCC) $(NVFLAGS))
# Rewritten when a flag changes, so that one folder never mixes builds with and without CUDA or a sanitizer.
$(B)/flags: FORCE
	@mkdir -p $(@D) $(B)/include
	@[ -e $(B)/include/string ] || : >$(B)/include/string
	@echo '$(FLAGS)' | cmp -s - $@ || echo '$(FLAGS)' >$@

# A profile says which kernels it is of: the digest of their sources and of the layouts'.
$(B)/kernel_sources: FORCE
	@mkdir -p $(@D)
	@cat $(KERNEL_SOURCES) | sha256sum | cut -c1-64 >$@.new; cmp -s $@.new $@ || cp $@.new $@; rm $@.new

$(B)/analysis/profile.o: $(B)/kernel_sources
$(B)/analysis/profile.o: CPPFLAGS += -DKVS_KERNEL_SOURCES='"$(shell cat $(B)/kernel_sources)"'

$(B)/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

$(B)/host/%.o: %.cu $(B)/flags
	@mkdir -p $(@D)
	$(Q)$(CXX) $(CPPFLAGS) $(CXXFLAGS) -c -o $@ -x c++ $<

$(B)/tests/%.o: tests/%.cu $(B)/flags
	@mkdir -p $(@D)
	$(Q)$(CXX) $(CPPFLAGS) $(CXXFLAGS) -c -o $@ -x c++ $<

$(B)/%.cu.o: %.cu $(B)/flags
	@mkdir -p $(@D)
	$(Q)$(NVCC) $(NVFLAGS) -Xptxas -v -MMD -MP -MF $(@:.o=.d) -c -o $@ $< 2>$(@:.o=.report); status=$$?; \
	    grep -vE '^(ptxas info|    Function|    [0-9]+ bytes|$$)' $(@:.o=.report) >&2; \
	    times >>$(@:.o=.report); exit $$status

$(B)/libkvscope.a: $(OBJECTS)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(B)/libkvscope.so: $(OBJECTS)
	$(Q)$(CC) $(LDFLAGS) -shared -Wl,-soname,libkvscope.so.0 -o $@ $^ $(LDLIBS)

$(B)/kvscope: $(FRONT:%.c=$(B)/%.o) $(B)/libkvscope.a
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

# Loaded into profiled programs: it must bring nothing along that they may have in another version.
$(B)/libkvscope_inject.so: $(addprefix $(B)/,$(addsuffix .o,analysis/cupti/inject analysis/cupti/session \
                           analysis/cupti/config analysis/cupti/library analysis/counters analysis/cupti_remedy \
                           analysis/exec_add core/status))
	$(Q)$(CC) $(filter -fsanitize%,$(LDFLAGS)) -shared -Wl,--exclude-libs,ALL -Wl,-Bsymbolic -o $@ $^ -lm -lpthread -ldl

$(B)/tests/fake/program: $(B)/tests/fake/program.o
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -ldl

# A CUPTI of the tests' own; its tests find it beside themselves.
$(B)/tests/fake/libcupti.so: $(B)/tests/fake/cupti.o
	$(Q)$(CC) $(LDFLAGS) -shared -o $@ $^

# This test lets single allocations of a GPU fail.
ifeq ($(CUDA),1)
$(B)/tests/parity/test_allocations: private LDFLAGS += -Wl,--wrap=cudaMalloc,--wrap=cudaMallocHost,--wrap=cudaFree,--wrap=cudaFreeHost
endif

$(B)/tests/%: $(B)/tests/%.o $(B)/libkvscope.a $(FAKES) $(INJECT)
	$(Q)$(CC) $(LDFLAGS) -o $@ $< $(B)/libkvscope.a $$($(PKG_CONFIG) --libs cmocka) $(LDLIBS)

# --- targets --------------------------------------------------------------------------------------------------------
deps: ## install what the build, the tests and the plots need, or say which command does
	@tools/deps.sh

check: ## set up, build and run every test
	@tools/deps.sh
	@$(MAKE) --no-print-directory check-built

check-built: all $(TEST_PROGRAMS)
	@B=$(B) PYTHON=$(PYTHON) CUDA=$(CUDA) NVCC="$(NVCC)" tests/run.sh $(TEST_PROGRAMS) $(wildcard tests/cli/test_*.sh tests/tidy/test_*.sh)

check-asan: ## the same under the address and undefined-behaviour sanitizers
	@$(MAKE) --no-print-directory check B=$(B)/asan SAN=address,undefined

golden: $(B)/tests/golden/test_kitty ## compare with golden data: make golden GOLDEN=FILE
	@KVS_GOLDEN="$(GOLDEN)" $(B)/tests/golden/test_kitty

demo: ## set up, build, replay the sample traces and run the sample model: plots in demo/
	@tools/deps.sh
	@$(MAKE) --no-print-directory all
	@B=$(B) tools/demo.sh

compare: ## set up, build, compare all schemes and rankings on the recorded traces of ../shared: tables, frontier in compare/
	@tools/deps.sh
	@$(MAKE) --no-print-directory all
	@B=$(B) tools/compare.sh

bench: ## set up, build, and compare speed with memcpy and with NumPy in one run
	@tools/deps.sh
	@$(MAKE) --no-print-directory all
	@B=$(B) PYTHON=$(PYTHON) tools/bench.sh

fuzz: ## fuzz the parsers of models and requests with libFuzzer (needs clang): make fuzz FUZZ_SECONDS=60
	@B=$(B) tools/fuzz.sh

install: all ## install into PREFIX (default /usr/local)
	@B=$(B) PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" HEADERS="$(HEADERS)" \
	    PACKAGES="$(PACKAGES)" SYSTEM_LIBS="$(filter-out $(shell $(PKG_CONFIG) --libs $(PACKAGES)),$(LDFLAGS) $(LDLIBS))" \
	    tools/install.sh

format: ## format all sources in place
	clang-format -i $$(git ls-files -co --exclude-standard '*.c' '*.h' '*.cu' '*.cuh' '*.cpp')

tidy: ## check the rules of the tree
	@B=$(B) CC="$(CC)" CXX="$(CXX)" HEADERS="$(HEADERS)" tests/tidy/test_tree.sh

clean: ## remove the build
	rm -rf $(B)

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

.PHONY: FORCE all deps check check-built check-asan golden demo compare fuzz bench install format tidy clean help
.SECONDARY:
-include $(shell find $(B) -name '*.d' 2>/dev/null)
