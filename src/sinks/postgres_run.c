/*
 * postgres_run.c
 *	  Statements on their way to the server, and what errors mean.
 *
 * A step is some statements in pipeline mode and a Sync behind them.  After an error
 * the server skips the rest of the step, also a COMMIT at its end.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "postgres_sink.h"

void
evs_pg_results_clear(EvsPg *sink)
{
	for (int i = 0; i < EVS_PG_RESULTS; i++)
	{
		PQclear(sink->results[i]);
		sink->results[i] = NULL;
	}
	sink->nqueued = sink->nresults = 0;
	memset(&sink->error, 0, sizeof(sink->error));
}

void
evs_pg_send(EvsPg *sink, const char *sql, int nparams, const char *const *params)
{
	if (sink->state < EVS_PG_SETUP)
		return;					/* it has failed in this step already */
	if (sink->nqueued == 0)
		evs_pg_results_clear(sink);
	if (PQsendQueryParams(sink->conn, sql, nparams, NULL, params, NULL, NULL, 0) != 1)
		evs_pg_fail(sink, "a statement could not be sent: %s", PQerrorMessage(sink->conn));
	else
		sink->nqueued++;
}

void
evs_pg_sync(EvsPg *sink, EvsPgNext then)
{
	if (sink->state < EVS_PG_SETUP)
		return;
	if (sink->nqueued == 0)
		evs_pg_results_clear(sink);
	sink->then = then;
	sink->running = true;
	sink->deadline = sink->host->now_us(sink->host->ctx) + sink->host->timeout_ms * INT64_C(2000);
	if (PQpipelineSync(sink->conn) != 1 || PQflush(sink->conn) < 0)
		evs_pg_fail(sink, "connection lost: %s", PQerrorMessage(sink->conn));
}

int64_t
evs_pg_affected(const EvsPg *sink, int statement)
{
	if (statement >= EVS_PG_RESULTS || sink->results[statement] == NULL)
		return -1;
	return strtoll(PQcmdTuples(sink->results[statement]), NULL, 10);
}

/* The first error of a step is the one; others follow from it. */
static void
take_error(EvsPg *sink, const PGresult *result)
{
	const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

	if (sink->error.sqlstate[0] != '\0')
		return;
	/* Without one it is libpq's own error. */
	snprintf(sink->error.sqlstate, sizeof(sink->error.sqlstate), "%s",
			 sqlstate != NULL ? sqlstate : "08006");
	snprintf(sink->error.message, sizeof(sink->error.message), "%s",
			 message != NULL ? message : PQresultErrorMessage(result));
}

static void
finish_step(EvsPg *sink)
{
	sink->running = false;
	sink->deadline = 0;
	sink->nqueued = 0;
	sink->then(sink);
}

/* One result; true if it was the last of the step. */
static bool
take_result(EvsPg *sink, PGresult *result)
{
	switch (PQresultStatus(result))
	{
		case PGRES_PIPELINE_SYNC:
			PQclear(result);
			return true;
		case PGRES_TUPLES_OK:
		case PGRES_COMMAND_OK:
			if (sink->nresults < EVS_PG_RESULTS)
			{
				sink->results[sink->nresults++] = result;
				return false;
			}
			break;
		case PGRES_PIPELINE_ABORTED:
			break;
		default:
			take_error(sink, result);
	}
	PQclear(result);
	return false;
}

/* A NULL is between statements; two of them, and nothing is on its way. */
static void
take_results(EvsPg *sink)
{
	int			nulls = 0;

	while (sink->running && nulls < 2 && !PQisBusy(sink->conn))
	{
		PGresult   *result = PQgetResult(sink->conn);

		nulls = result == NULL ? nulls + 1 : 0;
		if (result != NULL && take_result(sink, result))
			finish_step(sink);
		if (sink->state < EVS_PG_SETUP)
			return;
	}
}

void
evs_pg_read(EvsPg *sink)
{
	if (PQconsumeInput(sink->conn) == 1)
		take_results(sink);
	else
	{
		/* What came before the end may be a commit. */
		take_results(sink);
		if (sink->state >= EVS_PG_SETUP)
			evs_pg_fail(sink, "connection lost: %s", PQerrorMessage(sink->conn));
		return;
	}
	if (sink->state < EVS_PG_SETUP)
		return;
	if (PQstatus(sink->conn) == CONNECTION_BAD || PQflush(sink->conn) < 0)
		evs_pg_fail(sink, "connection lost: %s", PQerrorMessage(sink->conn));
}

/* --- errors --- */

/* The first that fits; of_message: another message may have a different fate. */
static const struct
{
	const char *prefix;
	evs_sink_class result;
	bool		of_message;
}			classes[] =
{
	{"VS", EVS_SINK_PERMANENT, true},	/* evstore's own */
	{"22", EVS_SINK_PERMANENT, true},	/* data exception */
	{"23503", EVS_SINK_RETRY, true},	/* the row that it refers to may still come */
	{"23", EVS_SINK_PERMANENT, true},	/* constraints */
	{"44", EVS_SINK_PERMANENT, true},	/* WITH CHECK OPTION */
	{"54", EVS_SINK_PERMANENT, true},	/* limits, such as that of an index row */
	{"P0", EVS_SINK_RETRY, true},	/* RAISE in a trigger */
	{"XX", EVS_SINK_RETRY, true},	/* internal errors */
	{"", EVS_SINK_RETRY_SINK, false}
};

evs_sink_class
evs_pg_classify(const char *sqlstate, bool *of_message)
{
	int			i = 0;

	while (strncmp(sqlstate, classes[i].prefix, strlen(classes[i].prefix)) != 0)
		i++;
	*of_message = classes[i].of_message;
	return classes[i].result;
}
