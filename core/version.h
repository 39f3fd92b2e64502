/* version.h: the one place of the version. */
#ifndef KVS_CORE_VERSION_H
#define KVS_CORE_VERSION_H

#define KVS_VERSION "0.1.0"

#endif
