/* Closes stderr: in exit, at once, with another file in its place, or all descriptors; or not. */
#include "check.h"
#include <fcntl.h>
#include <unistd.h>

static void close_stderr(void) { close(2); }

int main(int count, char **arguments) {
    CHECK(count == 2);
    const char *how = arguments[1];
    free(OPAQUE(malloc(100)));
    if (strcmp(how, "at exit") == 0) {
        atexit(close_stderr);
    } else if (strcmp(how, "at once") == 0) {
        close(2);
    } else if (strcmp(how, "reused") == 0) {
        char name[] = "/tmp/hakmem-closes-XXXXXX";
        int file = mkstemp(name);
        CHECK(file >= 0 && unlink(name) == 0);
        CHECK(dup2(file, 2) == 2);
    } else if (strcmp(how, "all") == 0) {
        for (int fd = 2; fd < 1024; fd++) {
            close(fd);
        }
        /* What takes their numbers is not to be written to. */
        for (int i = 0; i < 300; i++) {
            CHECK(open("/dev/zero", O_RDONLY) >= 0);
        }
    }
    return 0;
}
