/*
 * spi.c
 *	  The only place that runs SQL.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/guc.h"

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
