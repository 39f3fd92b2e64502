/* Fibers with swapcontext, the switch of processors that have none of their own. The library's are not linked: this
 * file defines the same functions. */
#define KVS_SIMT_UCONTEXT 1
#include "kernels/simt/fiber.c"
#include "tests/unit/fiber_cases.h"

int main(void) {
    return run_fiber_cases();
}
