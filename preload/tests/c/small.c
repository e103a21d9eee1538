/* A process of a few blocks says what it holds, in KiB: what is resident of the library's code, of the library's file in all, and
   what memory of its own the process has written. With an argument, a forked child says so of itself. */
#include "check.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* The figure of the line that begins with `name`; -1 if the line has another name. */
static long figure(const char *line, const char *name) {
    size_t length = strlen(name);
    return strncmp(line, name, length) ? -1 : atol(line + length);
}

/* A child of a process that has blocks. The parent ends with it. */
static void go_on_in_a_child(void) {
    char *block = malloc(100);
    CHECK(block);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child) {
        int status;
        CHECK(waitpid(child, &status, 0) == child);
        _exit(status != 0);
    }
    free(block);
}

int main(int argc, char **argv) {
    (void)argv;
    if (argc > 1)
        go_on_in_a_child();
    char *blocks[10];
    for (int i = 0; i < 10; i++) {
        blocks[i] = malloc(16 + i * 50);
        CHECK(blocks[i]);
        blocks[i][0] = 1;
    }
    for (int i = 0; i < 10; i += 2)
        free(blocks[i]);
    long code = 0, library = 0, own = 0;
    char line[512];
    FILE *file = fopen("/proc/self/smaps", "r");
    CHECK(file);
    int is_library = 0, is_code = 0;
    while (fgets(line, sizeof line, file)) {
        unsigned long from, to;
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2) {
            is_library = strstr(line, "libhakmem.so") != 0;
            is_code = is_library && strstr(line, " r-xp ");
        }
        long kib = figure(line, "Rss:"), written = figure(line, "Anonymous:");
        if (kib > 0 && is_code)
            code += kib;
        if (kib > 0 && is_library)
            library += kib;
        if (written > 0 && is_library)
            library -= written;
    }
    fclose(file);
    file = fopen("/proc/self/status", "r");
    CHECK(file);
    while (fgets(line, sizeof line, file)) {
        long kib = figure(line, "RssAnon:");
        if (kib > 0)
            own = kib;
    }
    fclose(file);
    printf("%ld %ld %ld\n", code, library, own);
    return 0;
}
