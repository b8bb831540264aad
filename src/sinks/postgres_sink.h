/*
 * postgres_sink.h
 *	  The sink "postgres": what its files share.
 *
 * The head of evstore_sink_postgres.c tells how it works.
 */
#ifndef EVSTORE_POSTGRES_SINK_H
#define EVSTORE_POSTGRES_SINK_H

#include <libpq-fe.h>

#include "sink_resolve.h"
#include "sink_util.h"

#define EVS_PG_COLUMNS 32
#define EVS_PG_PARAMS 10
#define EVS_PG_RESULTS 8

/* What a column is filled with. */
typedef enum EvsPgField
{
	EVS_PG_POSITION,
	EVS_PG_ID,
	EVS_PG_TYPE,
	EVS_PG_SOURCE,
	EVS_PG_STREAM,
	EVS_PG_KEY,
	EVS_PG_TOPIC,
	EVS_PG_TIME,
	EVS_PG_DATA,
	EVS_PG_VERSION
} EvsPgField;

typedef struct EvsPgColumn
{
	const char *name;
	EvsPgField	field;
	bool		is_bytea;		/* known when connected */
} EvsPgColumn;

/* Strings are those of the settings, or constants. */
typedef struct EvsPgConfig
{
	const char *host;
	char		port[8];
	const char *dbname;
	const char *user;
	const char *password;		/* name of the secret; NULL: none */
	const char *sslmode;
	const char *ca_file;
	const char *cert_file;
	const char *key_file;
	bool		is_socket;		/* host is a directory */
	bool		to_table;		/* otherwise to an evstore */
	const char *stream;			/* template */
	char		schema[64];
	char		table[64];
	EvsPgColumn columns[EVS_PG_COLUMNS];
	int			ncolumns;
	bool		create;
} EvsPgConfig;

typedef enum EvsPgSlotState
{
	EVS_PG_WAITING,
	EVS_PG_DONE
} EvsPgSlotState;

/* What is done with a message of the batch. */
typedef enum EvsPgAction
{
	EVS_PG_WRITE,
	EVS_PG_SKIP					/* the table has it */
} EvsPgAction;

typedef struct EvsPgSlot
{
	const evs_sink_message *message;
	EvsPgSlotState state;
	EvsPgAction action;
	bool		held;			/* an earlier one of its key has failed */
	bool		in_ledger;		/* passed over before, or a replay: it has a row there */
	evs_sink_class result;
	char		detail[256];
} EvsPgSlot;

typedef enum EvsPgState
{
	EVS_PG_IDLE,
	EVS_PG_RESOLVING,
	EVS_PG_CONNECTING,
	EVS_PG_SETUP,
	EVS_PG_READY
} EvsPgState;

struct EvsPg;

/* Called when all statements of a step have answered, or one has failed. */
typedef void (*EvsPgNext) (struct EvsPg *sink);

typedef struct EvsPgError
{
	char		sqlstate[6];	/* "": none */
	char		message[256];
} EvsPgError;

typedef struct EvsPg
{
	const evs_sink_host *host;
	EvsPgConfig config;

	/* Messages: a ring from head up to tail; the batch is at the head's side. */
	EvsPgSlot  *slots;
	uint64_t	capacity;		/* a power of two */
	uint64_t	head;			/* the first whose result was not returned */
	uint64_t	next;			/* the first that is in no batch yet */
	uint64_t	tail;
	int			nfailed;		/* DONE without success, not returned */
	uint64_t	batch;			/* the batch is from here up to next; empty if equal */
	uint64_t	single_until;	/* one by one up to here */
	int			attempts;		/* of this batch, after serialization failures */

	/* The connection */
	EvsPgState	state;
	PGconn	   *conn;
	PostgresPollingStatusType polling;
	evs_sink_lookup *lookup;
	evs_sink_addresses addresses;
	int			next_address;
	int64_t		deadline;		/* of the state, or of the step; 0: none */
	int64_t		retry_at;
	int			failures;

	/* The statements that are on their way */
	bool		running;
	EvsPgNext	then;
	int			nqueued;
	int			nresults;
	PGresult   *results[EVS_PG_RESULTS];	/* of the first ones */
	EvsPgError	error;
	EvsPgError	failure;		/* of the batch, while it is rolled back */

	/* The table */
	char	   *insert;			/* the statement */
	int64_t		position;		/* as in the position row */
	int64_t		new_position;	/* when the batch is committed */
	int			update;			/* number of the statement that moves the position; -1: none */
	bool		has_holes;		/* the ledger has messages that were passed over */
	bool		committing;
	int64_t    *doubtful;		/* positions of a batch whose COMMIT had no answer */
	int			ndoubtful;

	bool		resuming;
	int			resumed;		/* 1: known; -1: failed */
	int64_t		resume_position;
	char		resume_error[256];
} EvsPg;

static inline EvsPgSlot *
evs_pg_slot(EvsPg *sink, uint64_t serial)
{
	return &sink->slots[serial & (sink->capacity - 1)];
}

/* --- postgres_config.c --- */

extern int	evs_pg_config_read(EvsPgConfig *config, const evs_sink_host *host,
							   const evs_sink_settings *settings, char *error, size_t size);

/* --- postgres_connect.c --- */

extern void evs_pg_connect_run(EvsPg *sink, bool wanted);
extern void evs_pg_connect_close(EvsPg *sink);

/* The connection is lost: all messages are handed back. */
extern void evs_pg_fail(EvsPg *sink, const char *format, ...)
			__attribute__((format(printf, 2, 3)));

/* --- postgres_run.c --- */

/* Put a statement on its way; all values are text, or NULL. */
extern void evs_pg_send(EvsPg *sink, const char *sql, int nparams, const char *const *params);

/* Call then when all that was sent has answered. */
extern void evs_pg_sync(EvsPg *sink, EvsPgNext then);
extern void evs_pg_read(EvsPg *sink);

/* How many rows the statement of that number has changed; -1 if it is not there. */
extern int64_t evs_pg_affected(const EvsPg *sink, int statement);
extern void evs_pg_results_clear(EvsPg *sink);

/* What an error means for a message that is alone, and can that be another message's fault? */
extern evs_sink_class evs_pg_classify(const char *sqlstate, bool *of_message);

/* --- postgres_table.c --- */

/* Statements that prepare the connection, and what they have answered. */
extern void evs_pg_table_setup(EvsPg *sink);
extern bool evs_pg_table_is_set_up(EvsPg *sink, int first);

/* Write the batch. */
extern void evs_pg_table_begin(EvsPg *sink);

/* The batch is one message that is passed over: note that before it is done. */
extern void evs_pg_table_pass_over(EvsPg *sink);
extern void evs_pg_table_resume(EvsPg *sink);

/* The connection is lost: remember what may have been committed. */
extern void evs_pg_table_lost(EvsPg *sink);

/* --- postgres_append.c --- */

extern void evs_pg_append_begin(EvsPg *sink);

/* --- postgres_array.c --- */

/* Arrays as text.  Begin with a zeroed buffer; NULL is an element without a value. */
extern void evs_pg_array_add(evs_sink_buffer *array, const char *value, size_t length);
extern void evs_pg_array_add_string(evs_sink_buffer *array, const char *value);
extern void evs_pg_array_end(evs_sink_buffer *array);

/* Microseconds since 1970 as a timestamp with time zone. */
extern void evs_pg_format_time(int64_t time_us, char *text, size_t size);

/* --- evstore_sink_postgres.c --- */

extern void evs_pg_complete(EvsPg *sink, EvsPgSlot *slot, evs_sink_class result,
							const char *format, ...)
			__attribute__((format(printf, 4, 5)));
extern void evs_pg_complete_all(EvsPg *sink, evs_sink_class result, const char *why);

/* The batch is committed: each message has the result of its action. */
extern void evs_pg_batch_done(EvsPg *sink);

/* The batch has failed with sink->error: roll back, and decide. */
extern void evs_pg_batch_failed(EvsPg *sink);

#endif							/* EVSTORE_POSTGRES_SINK_H */
