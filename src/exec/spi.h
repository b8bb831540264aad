/*
 * spi.h
 *	  The only place that runs SQL.
 *
 * A begin/end pair connects SPI with search_path = pg_catalog, pg_temp and,
 * if asked, as the owner of evstore's tables, and undoes all of it.  An error
 * in between is cleaned up by (sub)transaction abort, except for the user id,
 * which PostgreSQL also resets there.
 */
#ifndef EVSTORE_SPI_H
#define EVSTORE_SPI_H

#include "fmgr.h"

typedef struct EvsSpi
{
	Oid			user;
	int			sec_context;
	int			guc_level;
} EvsSpi;

extern void evs_spi_begin(EvsSpi *spi, bool as_owner);
extern void evs_spi_end(EvsSpi *spi);

/* For owner's DDL that event triggers of the database must not refuse. */
extern void evs_spi_quiet_event_triggers(void);

/* Run one utility or DML statement without parameters. */
extern void evs_spi_run(const char *sql);

/* Run one statement with parameters; returns the number of rows. */
extern uint64 evs_spi_run_args(const char *sql, int nargs, Oid *types,
							   Datum *values, const char *nulls);

/*
 * A statement that is planned once a session.  Declare it static, with the
 * text and the types of its parameters.
 */
#define EVS_SPI_MAX_ARGS 12

typedef struct EvsSpiPlan
{
	const char *sql;
	int			nargs;
	Oid			types[EVS_SPI_MAX_ARGS];
	struct _SPI_plan *plan;
} EvsSpiPlan;

typedef struct EvsSpiRows
{
	uint64		nrows;
	int			ncolumns;
	Datum	   *values;			/* row by row */
	bool	   *nulls;
} EvsSpiRows;

/*
 * Run it as the owner of evstore's tables, begin and end included.  The rows
 * are in the current memory context.
 */
extern EvsSpiRows evs_spi_call(EvsSpiPlan *plan, Datum *values, const char *nulls);

/*
 * n arguments of a function, from first on, into those of a call, from at on: as they
 * are, and null if they are.
 */
extern void evs_spi_pass_arguments(FunctionCallInfo fcinfo, Datum *args, char *nulls,
								   int first, int n, int at);

/* The same for a query that is to see what has been committed, whatever the isolation level. */
extern EvsSpiRows evs_spi_call_latest(EvsSpiPlan *plan, Datum *values, const char *nulls);

/* And for one that writes: what it changes is the newest there is, in every isolation level. */
extern EvsSpiRows evs_spi_write_latest(EvsSpiPlan *plan, Datum *values, const char *nulls);

/*
 * In a procedure that was called outside of a transaction block: commit, so
 * that no snapshot is held.  false, and nothing done, if that is not possible.
 */
extern bool evs_spi_commit(FunctionCallInfo fcinfo);

#endif							/* EVSTORE_SPI_H */
