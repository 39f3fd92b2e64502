/* cupti.h: what tests ask of the CUPTI in tests/fake/cupti.c, found with dlsym. */
#ifndef KVS_TESTS_FAKE_CUPTI_H
#define KVS_TESTS_FAKE_CUPTI_H

/* The functions called so far, in order, a space after each. */
const char *fake_cupti_log(void);
/* Nothing called yet. */
void fake_cupti_forget(void);
/* A program launches a kernel: calls back before and after. */
void fake_cuda_launch(const char *kernel);
/* The same into a stream that is being captured: nothing runs. Then the graph runs its two kernels. */
void fake_cuda_capture(const char *kernel);
void fake_cuda_graph(void);

#endif
