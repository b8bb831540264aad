/*
 * evstore.c
 *	  Module magic and initialisation.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "base/guc.h"
#include "base/shmem.h"
#include "projection/inline.h"
#include "worker/launcher.h"
#include "compat.h"

EVS_MODULE_MAGIC("evstore", EVS_VERSION);

PG_FUNCTION_INFO_V1(evs_version);

void
_PG_init(void)
{
	evs_guc_init();
	evs_inline_init();
	if (process_shared_preload_libraries_in_progress)
	{
		evs_shmem_init();
		evs_launcher_init();
	}
}

/* version() → text: the version of the loaded library. */
Datum
evs_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(EVS_VERSION));
}
