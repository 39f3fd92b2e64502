/* Launches each probe of transaction_probe.h once on a GPU, for a profiler to count:
 *   nvcc -std=c++17 -O3 -arch=sm_90 -I. -o probe tests/peers/probe_transactions.cu
 *   ncu --csv --page raw --cache-control all --clock-control none --metrics M,... ./probe [KIND [FIRST]] */
#include <stdlib.h>

#include "tests/golden/transaction_probe.h"

int main(int argc, char **argv) {
    unsigned char *memory = NULL;
    uint32_t *never = NULL;
    int failures = 0;
    if (cudaMalloc(&memory, PROBE_BYTES) != cudaSuccess || cudaMalloc(&never, 256) != cudaSuccess) return 4;
    if (cudaMemset(memory, 0, PROBE_BYTES) != cudaSuccess) return 4;
    for_each_probe([&](int kind, uint32_t width, probe_pattern p, uint32_t number) {
        if (argc >= 2 && atoi(argv[1]) != kind) return;
        if (argc >= 3 && (uint32_t)atoi(argv[2]) > number) return;
        failures += launch_probe(kind, p, width, memory, never) != 0;
    });
    if (cudaDeviceSynchronize() != cudaSuccess || failures > 0) return 4;
    return 0;
}
