#include "core/h5_output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef H5FD_CLASS_VERSION
#include <H5FDdevelop.h>
#endif

/* The driver's part of an open file; HDF5 sees its first member. */
typedef struct {
    H5FD_t public;
    int descriptor;
    int *failure;
    haddr_t end_allocated, end_written;
} driver_file;

static void remember(driver_file *file) {
    if (*file->failure == 0) *file->failure = errno != 0 ? errno : EIO;
}

static H5FD_t *driver_open(const char *name, unsigned flags, hid_t access, haddr_t most) {
    (void)most;
    int *const *failure = H5Pget_driver_info(access);
    driver_file *file = calloc(1, sizeof *file);
    struct stat info;
    if (file == NULL || failure == NULL) goto failed;
    file->failure = *failure;
    file->descriptor = open(name, O_RDWR | O_CREAT | (flags & H5F_ACC_TRUNC ? O_TRUNC : 0), 0666);
    if (file->descriptor < 0) goto failed;
    if (fstat(file->descriptor, &info) == 0) {
        file->end_written = (haddr_t)info.st_size;
        return &file->public;
    }
    close(file->descriptor);
failed:
    free(file);
    return NULL;
}

static herr_t driver_close(H5FD_t *public) {
    driver_file *file = (driver_file *)public;
    if (close(file->descriptor) != 0) remember(file);
    free(file);
    return 0;
}

static herr_t driver_query(const H5FD_t *public, unsigned long *flags) {
    (void)public;
    *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA | H5FD_FEAT_DATA_SIEVE |
             H5FD_FEAT_AGGREGATE_SMALLDATA | H5FD_FEAT_DEFAULT_VFD_COMPATIBLE;
    return 0;
}

static haddr_t driver_get_eoa(const H5FD_t *public, H5FD_mem_t type) {
    (void)type;
    return ((const driver_file *)public)->end_allocated;
}

static herr_t driver_set_eoa(H5FD_t *public, H5FD_mem_t type, haddr_t address) {
    (void)type;
    ((driver_file *)public)->end_allocated = address;
    return 0;
}

static haddr_t driver_get_eof(const H5FD_t *public, H5FD_mem_t type) {
    (void)type;
    return ((const driver_file *)public)->end_written;
}

/* What was never written reads as zeros. */
static herr_t driver_read(H5FD_t *public, H5FD_mem_t type, hid_t transfer, haddr_t address, size_t size, void *to) {
    (void)type, (void)transfer;
    driver_file *file = (driver_file *)public;
    char *next = to;
    while (size > 0) {
        ssize_t got = pread(file->descriptor, next, size, (off_t)address);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return -1;
        if (got == 0) {
            memset(next, 0, size);
            return 0;
        }
        next += got;
        address += (haddr_t)got;
        size -= (size_t)got;
    }
    return 0;
}

static herr_t driver_write(H5FD_t *public, H5FD_mem_t type, hid_t transfer, haddr_t address, size_t size,
                           const void *from) {
    (void)type, (void)transfer;
    driver_file *file = (driver_file *)public;
    const char *next = from;
    if (address + size > file->end_written) file->end_written = address + size;
    while (size > 0 && *file->failure == 0) {
        ssize_t put = pwrite(file->descriptor, next, size, (off_t)address);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) {
            remember(file);
            break;
        }
        next += put;
        address += (haddr_t)put;
        size -= (size_t)put;
    }
    return 0;
}

static herr_t driver_truncate(H5FD_t *public, hid_t transfer, hbool_t closing) {
    (void)transfer, (void)closing;
    driver_file *file = (driver_file *)public;
    if (file->end_written == file->end_allocated) return 0;
    if (*file->failure == 0 && ftruncate(file->descriptor, (off_t)file->end_allocated) != 0) remember(file);
    file->end_written = file->end_allocated;
    return 0;
}

static const H5FD_class_t driver = {
#ifdef H5FD_CLASS_VERSION
    .version = H5FD_CLASS_VERSION,
    .value = (H5FD_class_value_t)301, /* 256 to 511 are free for experiments */
#endif
    .name = "kvscope output",
    .maxaddr = INT64_MAX,
    .fc_degree = H5F_CLOSE_STRONG,
    .fapl_size = sizeof(int *),
    .open = driver_open,
    .close = driver_close,
    .query = driver_query,
    .get_eoa = driver_get_eoa,
    .set_eoa = driver_set_eoa,
    .get_eof = driver_get_eof,
    .read = driver_read,
    .write = driver_write,
    .truncate = driver_truncate,
    .fl_map = H5FD_FLMAP_DICHOTOMY,
};

static kvs_status failed(const char *path, int failure, kvs_error *error) {
    return kvs_fail(error, KVS_INPUT, path, NULL, "cannot be written: %s",
                    failure != 0 ? strerror(failure) : "HDF5 failed");
}

/* The driver goes last: H5Fclose still calls it after dropping its own reference to it. */
static herr_t close_file(kvs_h5_output *output) {
    herr_t closed = output->file >= 0 ? H5Fclose(output->file) : 0;
    if (output->driver >= 0) H5FDunregister(output->driver);
    output->file = output->driver = H5I_INVALID_HID;
    return closed;
}

kvs_status kvs_h5_create(const char *path, kvs_h5_output *output, kvs_error *error) {
    output->failure = 0;
    output->file = output->driver = H5I_INVALID_HID;
    KVS_TRY(kvs_output_begin(path, &output->output, error));
    int *failure = &output->failure;
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    output->driver = H5FDregister(&driver);
    if (output->driver >= 0 && access >= 0 && H5Pset_driver(access, output->driver, &failure) >= 0 &&
        H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) >= 0)
        output->file = H5Fcreate(output->output.temporary, H5F_ACC_TRUNC, H5P_DEFAULT, access);
    if (access >= 0) H5Pclose(access);
    if (output->file >= 0) return KVS_OK;
    close_file(output);
    kvs_output_abandon(&output->output);
    return failed(path, output->failure, error);
}

kvs_status kvs_h5_output_check(const kvs_h5_output *output, kvs_error *error) {
    return output->failure == 0 ? KVS_OK : failed(output->output.path, output->failure, error);
}

kvs_status kvs_h5_finish(kvs_h5_output *output, kvs_error *error) {
    herr_t closed = close_file(output);
    if (closed >= 0 && output->failure == 0) return kvs_output_commit(&output->output, error);
    kvs_output_abandon(&output->output);
    return failed(output->output.path, output->failure, error);
}

void kvs_h5_abandon(kvs_h5_output *output) {
    if (output->failure == 0) output->failure = ECANCELED; /* nothing needs to reach the disk any more */
    close_file(output);
    kvs_output_abandon(&output->output);
}
