/* Fault injection: makes system calls on the files of a store fail, wait, or kill the process. `faults.rs`
 * preloads it into a server, below SQLite, to test how the server behaves with a failing disk.
 *
 * TIDINGS_STORE is the path of the store. The rules apply to files whose path begins with it (`name` is
 * the rest of the path, `.` for the file itself) and to its folder (`/`). TIDINGS_FAULTS is a file of
 * rules, one per line, read again at each call:
 *
 *     call name after times action [argument]
 *
 * `call` is write, sync, truncate, unlink, rename, chown, or * for any; `name` may be * too. The rule
 * skips the first `after` calls that match it and then acts `times` times (-1: always). `action` is fail
 * (with the number of an error), torn (fails after half of a write was done), late (fails after the call
 * was done), delay (in milliseconds), or kill. The first rule that matches decides. TIDINGS_CALLS, if it
 * is set, is a file that every call is appended to. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_RULES 16

struct rule {
    char call[16], name[32], action[16];
    long after, times, argument;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char last_text[2048];
static struct rule rules[MAX_RULES];
static int count;

/* The name of a file of the store: the rest of its path; NULL for other files. */
static const char *name_of(const char *path) {
    const char *store = getenv("TIDINGS_STORE");
    if (!store || !path) return NULL;
    size_t length = strlen(store);
    if (strncmp(path, store, length) == 0) return path[length] ? path + length : ".";
    size_t folder = strrchr(store, '/') - store;
    return strlen(path) == folder && strncmp(path, store, folder) == 0 ? "/" : NULL;
}

static const char *name_of_file(int file, char *path, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, size - 1);
    if (length < 0) return NULL;
    path[length] = 0;
    return name_of(path);
}

/* Reads the rules; their counts are reset only if the text of the file has changed. */
static void read_rules(void) {
    char text[sizeof last_text] = "";
    const char *path = getenv("TIDINGS_FAULTS");
    int file = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC) : -1;
    if (file >= 0) {
        ssize_t length = syscall(SYS_read, file, text, sizeof text - 1);
        text[length > 0 ? length : 0] = 0;
        syscall(SYS_close, file);
    }
    if (strcmp(text, last_text) == 0) return;
    memcpy(last_text, text, sizeof last_text);
    count = 0;
    for (char *rest = text, *line; count < MAX_RULES && (line = strsep(&rest, "\n"));) {
        struct rule *rule = &rules[count];
        memset(rule, 0, sizeof *rule);
        if (sscanf(line, "%15s %31s %ld %ld %15s %ld", rule->call, rule->name, &rule->after,
                   &rule->times, rule->action, &rule->argument) >= 5)
            count++;
    }
}

static int matches(const char *pattern, const char *text) {
    return strcmp(pattern, "*") == 0 || strcmp(pattern, text) == 0;
}

/* The rule that applies to a call, after its kill or delay; action `pass` if there is none. */
static struct rule decide(const char *call, const char *name) {
    struct rule decided = {.action = "pass"};
    if (!name) return decided;
    pthread_mutex_lock(&lock);
    read_rules();
    for (int index = 0; index < count; index++) {
        struct rule *rule = &rules[index];
        if (!matches(rule->call, call) || !matches(rule->name, name)) continue;
        if (rule->after > 0) {
            rule->after--;
        } else if (rule->times != 0) {
            if (rule->times > 0) rule->times--;
            decided = *rule;
            break;
        }
    }
    pthread_mutex_unlock(&lock);
    const char *calls = getenv("TIDINGS_CALLS");
    if (calls) {
        char line[128];
        int length = snprintf(line, sizeof line, "%s %s %s\n", call, name, decided.action);
        int file = syscall(SYS_openat, AT_FDCWD, calls, O_WRONLY | O_CREAT | O_APPEND, 0600);
        syscall(SYS_write, file, line, length);
        syscall(SYS_close, file);
    }
    if (strcmp(decided.action, "kill") == 0) kill(getpid(), SIGKILL);
    if (strcmp(decided.action, "delay") == 0) usleep(decided.argument * 1000);
    return decided;
}

static int has_action(struct rule rule, const char *action) {
    return strcmp(rule.action, action) == 0;
}

static int fail(struct rule rule) {
    errno = (int)rule.argument;
    return -1;
}

#define NEXT(function) ((__typeof__(&function))dlsym(RTLD_NEXT, #function))

/* Wraps a call on a file descriptor. */
#define ON_FILE(type, function, call, file, parameters, arguments)                                    \
    type function parameters {                                                                        \
        char path[4096];                                                                              \
        struct rule rule = decide(call, name_of_file(file, path, sizeof path));                       \
        if (has_action(rule, "fail")) return fail(rule);                                              \
        type done = NEXT(function) arguments;                                                         \
        return has_action(rule, "late") ? fail(rule) : done;                                          \
    }

ON_FILE(int, fsync, "sync", file, (int file), (file))
ON_FILE(int, fdatasync, "sync", file, (int file), (file))
ON_FILE(int, ftruncate, "truncate", file, (int file, off_t length), (file, length))
ON_FILE(int, ftruncate64, "truncate", file, (int file, off64_t length), (file, length))

#define WRITE(function, parameters, arguments, half)                                                  \
    ssize_t function parameters {                                                                     \
        char path[4096];                                                                              \
        struct rule rule = decide("write", name_of_file(file, path, sizeof path));                    \
        if (has_action(rule, "fail")) return fail(rule);                                              \
        if (has_action(rule, "torn") && NEXT(function) half >= 0) return fail(rule);                  \
        ssize_t done = NEXT(function) arguments;                                                      \
        return has_action(rule, "late") ? fail(rule) : done;                                          \
    }

WRITE(write, (int file, const void *bytes, size_t size), (file, bytes, size), (file, bytes, size / 2))
WRITE(pwrite, (int file, const void *bytes, size_t size, off_t at), (file, bytes, size, at),
      (file, bytes, size / 2, at))
WRITE(pwrite64, (int file, const void *bytes, size_t size, off64_t at), (file, bytes, size, at),
      (file, bytes, size / 2, at))

#define ON_PATH(function, call, parameters, arguments)                                                \
    int function parameters {                                                                         \
        struct rule rule = decide(call, name_of(path));                                               \
        if (has_action(rule, "fail")) return fail(rule);                                              \
        int done = NEXT(function) arguments;                                                          \
        return has_action(rule, "late") ? fail(rule) : done;                                          \
    }

ON_PATH(unlink, "unlink", (const char *path), (path))
ON_PATH(rename, "rename", (const char *path, const char *to), (path, to))
ON_PATH(chown, "chown", (const char *path, uid_t owner, gid_t group), (path, owner, group))
