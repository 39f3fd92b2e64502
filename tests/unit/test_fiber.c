/* Fibers with the switch of this processor. */
#include "tests/unit/fiber_cases.h"

int main(void) {
    return run_fiber_cases();
}
