/*
 * spi.c
 *	  The only place that runs SQL.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/memutils.h"

#include "catalog/catalog.h"
#include "exec/spi.h"

static void
set_local(const char *name, const char *value, GucContext context)
{
	(void) set_config_option(name, value, context, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

void
evs_spi_begin(EvsSpi *spi, bool as_owner)
{
	GetUserIdAndSecContext(&spi->user, &spi->sec_context);
	if (as_owner)
		SetUserIdAndSecContext(evs_catalog()->owner,
							   spi->sec_context | SECURITY_LOCAL_USERID_CHANGE);
	spi->guc_level = NewGUCNestLevel();
	set_local("search_path", "pg_catalog, pg_temp", PGC_USERSET);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

void
evs_spi_end(EvsSpi *spi)
{
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");
	AtEOXact_GUC(true, spi->guc_level);
	SetUserIdAndSecContext(spi->user, spi->sec_context);
}

/*
 * An event trigger that freezes DDL would otherwise turn the next partition
 * into an outage of all appends.
 */
void
evs_spi_quiet_event_triggers(void)
{
	set_local("session_replication_role", "replica", PGC_SUSET);
}

void
evs_spi_run(const char *sql)
{
	int			result = SPI_execute(sql, false, 0);

	if (result < 0)
		elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(result));
}

uint64
evs_spi_run_args(const char *sql, int nargs, Oid *types, Datum *values, const char *nulls)
{
	int			result = SPI_execute_with_args(sql, nargs, types, values, nulls, false, 0);

	if (result < 0)
		elog(ERROR, "SPI_execute_with_args failed: %s", SPI_result_code_string(result));
	return SPI_processed;
}

static void
prepare(EvsSpiPlan *plan)
{
	SPIPlanPtr	prepared = SPI_prepare(plan->sql, plan->nargs, plan->types);

	if (prepared == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	if (SPI_keepplan(prepared) != 0)
		elog(ERROR, "SPI_keepplan failed");
	plan->plan = prepared;
}

/* SPI's memory goes with evs_spi_end(). */
static void
copy_rows(EvsSpiRows *rows, MemoryContext context)
{
	TupleDesc	desc;
	MemoryContext old;

	rows->nrows = SPI_tuptable != NULL ? SPI_processed : 0;
	if (rows->nrows == 0)
		return;
	desc = SPI_tuptable->tupdesc;
	rows->ncolumns = desc->natts;
	old = MemoryContextSwitchTo(context);
	rows->values = palloc(sizeof(Datum) * rows->nrows * desc->natts);
	rows->nulls = palloc(sizeof(bool) * rows->nrows * desc->natts);
	for (uint64 i = 0; i < rows->nrows; i++)
	{
		Datum	   *values = rows->values + i * desc->natts;
		bool	   *nulls = rows->nulls + i * desc->natts;

		heap_deform_tuple(SPI_tuptable->vals[i], desc, values, nulls);
		for (int k = 0; k < desc->natts; k++)
			if (!nulls[k])
				values[k] = datumCopy(values[k], TupleDescAttr(desc, k)->attbyval,
									  TupleDescAttr(desc, k)->attlen);
	}
	MemoryContextSwitchTo(old);
}

static EvsSpiRows
call(EvsSpiPlan *plan, Datum *values, const char *nulls, Snapshot snapshot, bool read_only)
{
	MemoryContext context = CurrentMemoryContext;
	EvsSpiRows	rows = {0};
	EvsSpi		spi;
	int			result;

	evs_spi_begin(&spi, true);
	if (plan->plan == NULL)
		prepare(plan);
	result = SPI_execute_snapshot(plan->plan, values, nulls, snapshot, InvalidSnapshot, read_only,
								  true, 0);
	if (result < 0)
		elog(ERROR, "SPI_execute_snapshot failed: %s", SPI_result_code_string(result));
	copy_rows(&rows, context);
	evs_spi_end(&spi);
	return rows;
}

EvsSpiRows
evs_spi_call(EvsSpiPlan *plan, Datum *values, const char *nulls)
{
	return call(plan, values, nulls, InvalidSnapshot, false);
}

EvsSpiRows
evs_spi_write_latest(EvsSpiPlan *plan, Datum *values, const char *nulls)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	EvsSpiRows	rows = call(plan, values, nulls, snapshot, false);

	UnregisterSnapshot(snapshot);
	return rows;
}

EvsSpiRows
evs_spi_call_latest(EvsSpiPlan *plan, Datum *values, const char *nulls)
{
	EvsSpiRows	rows;

	/* read_only: by the active snapshot */
	PushActiveSnapshot(GetLatestSnapshot());
	rows = call(plan, values, nulls, InvalidSnapshot, true);
	PopActiveSnapshot();
	return rows;
}

bool
evs_spi_commit(FunctionCallInfo fcinfo)
{
	if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		castNode(CallContext, fcinfo->context)->atomic)
		return false;
	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect_ext failed");
	SPI_commit();
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");
	return true;
}

void
evs_spi_pass_arguments(FunctionCallInfo fcinfo, Datum *args, char *nulls, int first, int n, int at)
{
	for (int i = 0; i < n; i++)
	{
		args[at + i] = fcinfo->args[first + i].value;
		nulls[at + i] = fcinfo->args[first + i].isnull ? 'n' : ' ';
	}
}
