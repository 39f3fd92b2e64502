#include <stddef.h>

#include "analysis/counters.h"

/* The numbers are those of cupti_result.h, which a machine without CUDA lacks; tests/unit/test_cupti.c compares. */
static const struct remedy {
    int code;
    const char *text;
} remedies[] = {
    {2, "CUPTI does not know this device; take a CUPTI at least as new as the driver"},
    {8, "CUPTI has no memory left; profile fewer kernels at once"},
    {9, "the GPU reports a hardware fault; look at nvidia-smi and dmesg"},
    {17, "this chip has no counter of that name"},
    {26, "another profiler holds the GPU's counters (Nsight Compute, DCGM, another profiled process); stop it, or "
         "pause DCGM "
         "with 'dcgmi profile --pause'"},
    {27, "CUPTI does not support this GPU or driver; compute capability 7.5 and a CUDA 13 driver are needed"},
    {33,
     "a virtualized GPU (vGPU) hides its counters; profile on a GPU passed through, or have the host enable profiling"},
    {34, "CUPTI is older than the program's CUDA; take the CUPTI of that CUDA or a newer one"},
    {35, "no permission to read the GPU's counters (ERR_NVGPUCTRPERM); run as root (in a container with --cap-add "
         "SYS_ADMIN), "
         "or have the administrator load the driver with NVreg_RestrictProfilingToAdminUsers=0"},
    {36, "an older profiling API is in use in this process; run without other profiling tools"},
    {38, "CUPTI's older profiler does not support this GPU; take the CUPTI of CUDA 13"},
    {39, "another tool in this process already uses CUPTI (a framework's profiler, Nsight); switch it off"},
    {40, "this virtualized GPU (vGPU) does not permit profiling; have the host enable it for this guest"},
    {41, "confidential computing is on, which hides the counters; profile with it off"},
    {42, "a mining GPU (CMP) hides its counters; profile on another one"},
    {43, "the GPU is partitioned (MIG), where these counters cannot be read; profile on a GPU without MIG"},
    {44, "SLI is on, which hides the counters; switch it off"},
    {45, "under WSL this GPU's counters cannot be read; enable them in the NVIDIA control panel, or profile on Linux"},
    {46, "this CUPTI does not know the chip; take the CUPTI that came with the driver's CUDA"},
};

const char *kvs_cupti_remedy(int code) {
    for (size_t i = 0; i < sizeof remedies / sizeof *remedies; i++)
        if (remedies[i].code == code) return remedies[i].text;
    return NULL;
}
