/* An ADBC driver that yields as many rows as asked for, and misbehaves as asked for. Its database's option `uri` says how:
 * words separated by semicolons. `rows=N`, `batch=N`, `exit=N` (ends the process before row N), `fail=N` (an error before
 * row N), `hang=N` (never yields row N), `abort=N`, `print` (writes to standard output), `flood` (fills standard error),
 * `slow` (a millisecond per batch), `refuse` (does not connect), `null` (null keys), `narrow` (a column too few).
 * Only what a reader of rows calls is there. The layouts are those of ADBC 1.0 and of Arrow's C data interface. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, NOT_IMPLEMENTED = 2, INVALID_ARGUMENTS = 5, UNAUTHENTICATED = 13, IO = 10 };

struct Error { char *message; int32_t vendor_code; char sqlstate[5]; void (*release)(struct Error *); void *data, *driver; };
struct Handle { void *data, *driver; };
struct Schema { const char *format, *name, *metadata; int64_t flags, n_children; struct Schema **children, *dictionary; void (*release)(struct Schema *); void *data; };
struct Array { int64_t length, null_count, offset, n_buffers, n_children; const void **buffers; struct Array **children, *dictionary; void (*release)(struct Array *); void *data; };
struct Stream { int (*get_schema)(struct Stream *, struct Schema *); int (*get_next)(struct Stream *, struct Array *); const char *(*get_last_error)(struct Stream *); void (*release)(struct Stream *); void *data; };
typedef uint8_t (*Function)();
struct Driver {
  void *data, *manager;
  uint8_t (*release)(struct Driver *, struct Error *);
  Function database_init, database_new, database_set_option, database_release;
  Function connection_commit, connection_get_info, connection_get_objects, connection_get_table_schema, connection_get_table_types;
  Function connection_init, connection_new, connection_set_option, connection_read_partition, connection_release, connection_rollback;
  Function statement_bind, statement_bind_stream, statement_execute_query, statement_execute_partitions, statement_get_parameter_schema;
  Function statement_new, statement_prepare, statement_release, statement_set_option, statement_set_sql_query, statement_set_substrait_plan;
};

static char behaviour[4096] = "";

static long number(const char *word, long otherwise) {
  char wanted[64];
  snprintf(wanted, sizeof wanted, "%s=", word);
  const char *at = strstr(behaviour, wanted);
  return at ? atol(at + strlen(wanted)) : otherwise;
}
static int is(const char *word) { return strstr(behaviour, word) != NULL; }

static void release_error(struct Error *error) { free(error->message); error->message = NULL; error->release = NULL; }
static uint8_t fail(struct Error *error, uint8_t status, const char *message) {
  if (error) { memset(error, 0, sizeof *error); error->message = strdup(message); error->release = release_error; memcpy(error->sqlstate, "08006", 5); }
  return status;
}

static uint8_t fine() { return OK; }
static uint8_t missing() { return NOT_IMPLEMENTED; }
static uint8_t release_driver(struct Driver *driver, struct Error *error) { (void)driver; (void)error; return OK; }
static uint8_t set_database_option(struct Handle *of, const char *name, const char *value, struct Error *error) {
  (void)of;
  if (strcmp(name, "uri") == 0) { snprintf(behaviour, sizeof behaviour, "%s", value); return OK; }
  if (strcmp(name, "password") == 0) return OK;
  return fail(error, INVALID_ARGUMENTS, "an option that this driver does not have");
}
static uint8_t init_database(struct Handle *of, struct Error *error) {
  (void)of;
  if (is("print")) { printf("a driver that talks\n"); fflush(stdout); }
  if (is("flood")) for (int line = 0; line < 200000; line++) fprintf(stderr, "a driver that complains, line %d\n", line);
  if (is("refuse")) return fail(error, UNAUTHENTICATED, "wrong password s3cr3t-s3cr3t");
  return OK;
}

/* Which rows a statement yields: the sixth argument of nothing, so they are kept here. One statement at a time. */
struct Rows { long next, all, batch; int for_no_rows; };
static int for_no_rows, selected, only_seats;
static uint8_t set_sql(struct Handle *of, const char *sql, struct Error *error) {
  (void)of; (void)error;
  for_no_rows = strstr(sql, "LIMIT 0") != NULL;
  selected = 0;
  for (const char *at = sql; (at = strstr(at, " AS \"c")) != NULL; at++) selected++;
  if (selected == 0) selected = 2; /* all of them */
  only_seats = selected == 1 && strstr(sql, "seats") != NULL;
  return OK;
}

static void release_schema(struct Schema *schema) {
  for (int64_t at = 0; at < schema->n_children; at++) { if (schema->children[at]->release) schema->children[at]->release(schema->children[at]); free(schema->children[at]); }
  free(schema->children);
  schema->release = NULL;
}
static void leaf(struct Schema *schema, const char *name, const char *format) {
  memset(schema, 0, sizeof *schema);
  schema->format = format; schema->name = name; schema->flags = 2; schema->release = release_schema;
}
static int columns() { return is("narrow") && !for_no_rows ? 1 : selected; }
static int get_schema(struct Stream *stream, struct Schema *schema) {
  (void)stream;
  leaf(schema, "", "+s");
  schema->n_children = columns();
  schema->children = calloc(2, sizeof *schema->children);
  for (int at = 0; at < columns(); at++) {
    schema->children[at] = malloc(sizeof **schema->children);
    int is_id = at == 0 && !only_seats;
    leaf(schema->children[at], is_id ? "id" : "seats", is_id ? "u" : "l");
  }
  return 0;
}

static void release_array(struct Array *array) {
  for (int64_t at = 0; at < array->n_buffers; at++) free((void *)array->buffers[at]);
  free(array->buffers);
  for (int64_t at = 0; at < array->n_children; at++) { array->children[at]->release(array->children[at]); free(array->children[at]); }
  free(array->children);
  array->release = NULL;
}
static void buffers(struct Array *array, int64_t length, int64_t count) {
  memset(array, 0, sizeof *array);
  array->length = length; array->n_buffers = count; array->buffers = calloc(count, sizeof *array->buffers); array->release = release_array;
}

static int get_next(struct Stream *stream, struct Array *array) {
  struct Rows *rows = stream->data;
  memset(array, 0, sizeof *array);
  long left = rows->all - rows->next, count = left < rows->batch ? left : rows->batch;
  if (count <= 0) return 0;
  for (long row = rows->next; row < rows->next + count; row++) {
    if (row == number("exit", -1)) _exit(3);
    if (row == number("abort", -1)) abort();
    if (row == number("fail", -1)) return 5;
    if (row == number("hang", -1)) for (;;) pause();
  }
  if (is("slow")) usleep(1000);
  buffers(array, count, 1);
  array->n_children = columns();
  array->children = calloc(2, sizeof *array->children);
  struct Array *ids = malloc(sizeof *ids);
  buffers(ids, count, 3);
  int32_t *ends = calloc(count + 1, sizeof *ends);
  char *texts = malloc(count * 24);
  uint8_t *valid = is("null") ? calloc(count / 8 + 1, 1) : NULL;
  for (long row = 0; row < count; row++) ends[row + 1] = ends[row] + (is("null") ? 0 : sprintf(texts + ends[row], "acct_%ld", rows->next + row));
  ids->buffers[0] = valid; ids->buffers[1] = ends; ids->buffers[2] = texts;
  ids->null_count = valid ? count : 0;
  array->children[0] = ids;
  if (columns() == 2) {
    struct Array *seats = malloc(sizeof *seats);
    buffers(seats, count, 2);
    int64_t *values = calloc(count, sizeof *values);
    for (long row = 0; row < count; row++) values[row] = rows->next + row;
    seats->buffers[1] = values;
    array->children[1] = seats;
  }
  rows->next += count;
  return 0;
}
static const char *last_error(struct Stream *stream) { (void)stream; return "the connection was reset"; }
static void release_stream(struct Stream *stream) { free(stream->data); stream->release = NULL; }
static uint8_t execute(struct Handle *of, struct Stream *stream, int64_t *affected, struct Error *error) {
  (void)of; (void)error;
  struct Rows *rows = malloc(sizeof *rows);
  rows->next = 0; rows->all = for_no_rows ? 0 : number("rows", 10); rows->batch = number("batch", 1000);
  if (affected) *affected = -1;
  stream->get_schema = get_schema; stream->get_next = get_next; stream->get_last_error = last_error; stream->release = release_stream; stream->data = rows;
  return OK;
}

uint8_t AdbcDriverInit(int version, void *raw, struct Error *error) {
  if (version != 1000000) return fail(error, NOT_IMPLEMENTED, "only 1.0.0");
  struct Driver *driver = raw;
  memset(driver, 0, sizeof *driver);
  driver->release = release_driver;
  driver->database_new = driver->database_release = fine;
  driver->database_init = (Function)init_database;
  driver->database_set_option = (Function)set_database_option;
  driver->connection_new = driver->connection_init = driver->connection_release = fine;
  driver->connection_set_option = missing;
  driver->connection_commit = driver->connection_get_info = driver->connection_get_objects = driver->connection_get_table_schema = missing;
  driver->connection_get_table_types = driver->connection_read_partition = driver->connection_rollback = missing;
  driver->statement_new = driver->statement_release = driver->statement_prepare = fine;
  driver->statement_set_sql_query = (Function)set_sql;
  driver->statement_execute_query = (Function)execute;
  driver->statement_bind = driver->statement_bind_stream = driver->statement_execute_partitions = missing;
  driver->statement_get_parameter_schema = driver->statement_set_option = driver->statement_set_substrait_plan = missing;
  return OK;
}
