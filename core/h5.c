#include "core/h5.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void kvs_h5_lock(void) {
    pthread_mutex_lock(&lock);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL); /* per thread where HDF5 is thread-safe, so at every entry */
    H5Eclear2(H5E_DEFAULT);
}

void kvs_h5_unlock(void) {
    pthread_mutex_unlock(&lock);
}

static herr_t keep_first(unsigned depth, const H5E_error2_t *entry, void *reason) {
    if (depth == 0 && entry->desc != NULL) snprintf(reason, 160, "%s", entry->desc);
    return 0;
}

/* "/sequences/000000" and "k" give "/sequences/000000/k". */
static const char *join(kvs_h5_place at, const char *name, char object[160]) {
    snprintf(object, 160, "%s/%s", at.object, name);
    return object;
}

kvs_status kvs_h5_fail(kvs_error *error, kvs_h5_place at, const char *name, const char *rule) {
    char object[160], reason[160] = "";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first, reason);
    H5Eclear2(H5E_DEFAULT);
    return kvs_fail(error, KVS_INPUT, at.file, name != NULL ? join(at, name, object) : at.object, "%s%s%s%s", rule,
                    reason[0] ? " (HDF5: " : "", reason, reason[0] ? ")" : "");
}

kvs_status kvs_h5_open(const char *path, hid_t *file, kvs_error *error) {
    struct stat info;
    *file = H5I_INVALID_HID;
    if (stat(path, &info) != 0) return kvs_fail(error, KVS_INPUT, path, NULL, "cannot be opened: %s", strerror(errno));
    if (!S_ISREG(info.st_mode)) return kvs_fail(error, KVS_INPUT, path, NULL, "is not a regular file");
    FILE *probe = fopen(path, "rb");
    if (probe == NULL) return kvs_fail(error, KVS_INPUT, path, NULL, "cannot be opened: %s", strerror(errno));
    fclose(probe);
    kvs_h5_place at = {0, path, ""};
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    if (access < 0) return kvs_h5_fail(error, at, NULL, "cannot be opened");
    H5Pset_file_locking(access, 1, 1); /* not where the file system has no locks */
    H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
    *file = H5Fopen(path, H5F_ACC_RDONLY, access);
    H5Pclose(access);
    if (*file >= 0) return KVS_OK;
    char reason[160] = "";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first, reason);
    H5Eclear2(H5E_DEFAULT);
    if (H5Fis_hdf5(path) <= 0) return kvs_fail(error, KVS_INPUT, path, NULL, "is not an HDF5 file");
    return kvs_fail(error, KVS_INPUT, path, NULL, "is a damaged HDF5 file: %s", reason);
}

int kvs_h5_has(kvs_h5_place at, const char *name) {
    return H5Lexists(at.id, name, H5P_DEFAULT) > 0;
}

/* Only a hard link leads to an object of this file for certain. */
static kvs_status check_link(kvs_h5_place at, const char *name, const char *what, kvs_error *error) {
    char object[160];
    H5L_info_t info;
    if (!kvs_h5_has(at, name))
        return kvs_fail(error, KVS_INPUT, at.file, join(at, name, object), "%s is missing", what);
    if (H5Lget_info(at.id, name, &info, H5P_DEFAULT) < 0) return kvs_h5_fail(error, at, name, "cannot be read");
    if (info.type == H5L_TYPE_HARD) return KVS_OK;
    return kvs_fail(error, KVS_INPUT, at.file, join(at, name, object), "is %s link; only objects of this file are read",
                    info.type == H5L_TYPE_SOFT ? "a soft" : "an external");
}

kvs_status kvs_h5_group(kvs_h5_place at, const char *name, hid_t *group, kvs_error *error) {
    *group = H5I_INVALID_HID;
    KVS_TRY(check_link(at, name, "group", error));
    *group = H5Gopen2(at.id, name, H5P_DEFAULT);
    return *group >= 0 ? KVS_OK : kvs_h5_fail(error, at, name, "is not a readable group");
}

static kvs_status check_filters(kvs_h5_place at, hid_t creation, kvs_error *error) {
    int filters = H5Pget_nfilters(creation);
    if (filters < 0) return kvs_h5_fail(error, at, NULL, "has unreadable filters");
    for (int i = 0; i < filters; i++) {
        unsigned flags, settings;
        size_t values = 0;
        char name[64] = "";
        H5Z_filter_t id = H5Pget_filter2(creation, (unsigned)i, &flags, &values, NULL, sizeof name, name, &settings);
        if (id == H5Z_FILTER_DEFLATE || id == H5Z_FILTER_SHUFFLE || id == H5Z_FILTER_FLETCHER32) continue;
        name[sizeof name - 1] = '\0';
        return kvs_fail(error, KVS_INPUT, at.file, at.object,
                        "needs filter %d (%s); only shuffle, deflate and fletcher32 are read", (int)id,
                        name[0] ? name : "unnamed");
    }
    return KVS_OK;
}

/* Storage that is missing would read as zeros, and storage smaller than its shape can fill makes callers allocate what
 * the file cannot hold. deflate shrinks to 1/1032 at most. */
static kvs_status check_storage(kvs_h5_place at, hid_t creation, int rank, const hsize_t *dims, uint64_t chunk_bytes,
                                size_t element_bytes, kvs_error *error) {
    enum { DEFLATE_RATIO = 1100 };
    uint64_t bytes = element_bytes, chunks = 1, chunk = element_bytes;
    for (int i = 0; i < rank; i++)
        if (__builtin_mul_overflow(bytes, (uint64_t)dims[i], &bytes) || bytes > INT64_MAX / 2)
            return kvs_fail(error, KVS_INPUT, at.file, at.object, "is too large: dimension %d is %llu", i,
                            (unsigned long long)dims[i]);
    H5D_layout_t layout = H5Pget_layout(creation);
    if (layout == H5D_CHUNKED) {
        hsize_t shape[H5S_MAX_RANK], allocated = 0;
        if (H5Pget_chunk(creation, rank, shape) != rank) return kvs_h5_fail(error, at, NULL, "has unreadable chunks");
        for (int i = 0; i < rank; i++) {
            if (shape[i] == 0 || __builtin_mul_overflow(chunk, (uint64_t)shape[i], &chunk) || chunk > chunk_bytes)
                return kvs_fail(error, KVS_INPUT, at.file, at.object, "has chunks of more than %llu bytes",
                                (unsigned long long)chunk_bytes);
            chunks *= (dims[i] + shape[i] - 1) / shape[i];
        }
        hid_t space = H5Dget_space(at.id);
        herr_t known = space < 0 ? -1 : H5Dget_num_chunks(at.id, space, &allocated);
        if (space >= 0) H5Sclose(space);
        if (known < 0) return kvs_h5_fail(error, at, NULL, "has unreadable chunks");
        if (allocated != chunks)
            return kvs_fail(error, KVS_INPUT, at.file, at.object, "is incomplete: %llu of %llu chunks were written",
                            (unsigned long long)allocated, (unsigned long long)chunks);
    }
    hsize_t stored = H5Dget_storage_size(at.id), file_bytes = 0;
    hid_t file = H5Iget_file_id(at.id);
    herr_t sized = file < 0 ? -1 : H5Fget_filesize(file, &file_bytes);
    if (file >= 0) H5Fclose(file);
    if (sized < 0) return kvs_h5_fail(error, at, NULL, "cannot be read");
    uint64_t most = H5Pget_nfilters(creation) > 0 ? DEFLATE_RATIO : 1;
    if (stored > file_bytes || bytes / most > stored)
        return kvs_fail(error, KVS_INPUT, at.file, at.object, "is incomplete: its shape needs more than is stored");
    return KVS_OK;
}

static kvs_status check_dataset(kvs_h5_place at, hid_t creation, int rank, uint64_t chunk_bytes, hsize_t *dims,
                                kvs_error *error) {
    H5D_layout_t layout = H5Pget_layout(creation);
    if (layout != H5D_CONTIGUOUS && layout != H5D_COMPACT && layout != H5D_CHUNKED) /* before its space is asked for */
        return kvs_fail(error, KVS_INPUT, at.file, at.object,
                        "is a virtual dataset; only values in this file are read");
    if (H5Pget_external_count(creation) != 0)
        return kvs_fail(error, KVS_INPUT, at.file, at.object, "is stored in another file; only this file is read");
    KVS_TRY(check_filters(at, creation, error));
    hid_t space = H5Dget_space(at.id), type = H5Dget_type(at.id);
    int simple = space >= 0 && H5Sget_simple_extent_type(space) == H5S_SIMPLE;
    int found = simple ? H5Sget_simple_extent_ndims(space) : 0;
    if (found == rank) H5Sget_simple_extent_dims(space, dims, NULL);
    size_t element_bytes = type >= 0 ? H5Tget_size(type) : 0;
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    if (found != rank) return kvs_fail(error, KVS_INPUT, at.file, at.object, "has rank %d, must be %d", found, rank);
    if (element_bytes == 0) return kvs_h5_fail(error, at, NULL, "has an unreadable element type");
    for (int i = 0; i < rank; i++)
        if (dims[i] == 0) return kvs_fail(error, KVS_INPUT, at.file, at.object, "dimension %d is 0", i);
    return check_storage(at, creation, rank, dims, chunk_bytes, element_bytes, error);
}

kvs_status kvs_h5_dataset(kvs_h5_place at, const char *name, int rank, uint64_t chunk_bytes, hsize_t *dims,
                          hid_t *dataset, kvs_error *error) {
    *dataset = H5I_INVALID_HID;
    KVS_TRY(check_link(at, name, "dataset", error));
    /* A chunk is read once and whole, so a cache of chunks would only copy; without one, chunks that no filter
     * changed are read straight into the caller's memory. */
    hid_t access = H5Pcreate(H5P_DATASET_ACCESS);
    if (access < 0 || H5Pset_chunk_cache(access, 0, 0, 1.0) < 0) return kvs_h5_fail(error, at, name, "cannot be read");
    hid_t id = H5Dopen2(at.id, name, access);
    H5Pclose(access);
    if (id < 0) return kvs_h5_fail(error, at, name, "is not a readable dataset");
    char object[160];
    kvs_h5_place place = {id, at.file, join(at, name, object)};
    hid_t creation = H5Dget_create_plist(id);
    kvs_status status = creation < 0 ? kvs_h5_fail(error, place, NULL, "cannot be read")
                                     : check_dataset(place, creation, rank, chunk_bytes, dims, error);
    if (creation >= 0) H5Pclose(creation);
    if (status == KVS_OK)
        *dataset = id;
    else
        H5Dclose(id);
    return status;
}
