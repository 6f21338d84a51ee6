/* An extension for DuckDB that does nothing, or says that it cannot begin. Its end is appended by the tests. */
#include <stdbool.h>

struct access {
    void (*set_error)(void *info, const char *message);
    void *(*get_database)(void *info);
    const void *(*get_api)(void *info, const char *version);
};

__attribute__((visibility("default"))) bool INIT(void *info, struct access *access) {
#ifdef FAILS
    access->set_error(info, "this extension is out of order");
    return false;
#else
    return access->get_api(info, "v1.2.0") != 0;
#endif
}
