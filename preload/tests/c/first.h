/* Waits until the process's first thread has ended. */
#include "check.h"

#include <unistd.h>

static void await_end_of_first(void) {
    char path[64], state;
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", getpid());
    do {
        FILE *stat = fopen(path, "r");
        CHECK(stat != NULL && fscanf(stat, "%*d %*s %c", &state) == 1);
        fclose(stat);
        usleep(1000);
    } while (state != 'Z');
}
