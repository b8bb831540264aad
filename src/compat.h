/*
 * compat.h
 *	  Differences between PostgreSQL 15, 16, 17, 18 (and 19), in one place.
 *
 * The only file that tests PG_VERSION_NUM.  A shim has the newest version's
 * meaning and says which version made the difference.  It is included last,
 * after the server headers that a file needs.
 */
#ifndef EVSTORE_COMPAT_H
#define EVSTORE_COMPAT_H

#include "access/genam.h"
#include "access/tableam.h"
#include "catalog/pg_proc.h"
#include "common/jsonapi.h"
#include "executor/execExpr.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/regproc.h"
#include "utils/wait_event.h"

#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#if PG_VERSION_NUM < 150000
#error "evstore needs PostgreSQL 15 or newer"
#endif

/* 16 declares _PG_init in fmgr.h and hides symbols that are not exported */
#if PG_VERSION_NUM < 160000
extern PGDLLEXPORT void _PG_init(void);
#endif

/* 18 writes it before the declaration, and not behind it */
#if PG_VERSION_NUM < 180000
#define pg_noreturn pg_attribute_noreturn()
#endif

/* 18 lets a module name itself in pg_get_loaded_modules() */
#if PG_VERSION_NUM >= 180000
#define EVS_MODULE_MAGIC(name_, version_) \
	PG_MODULE_MAGIC_EXT(.name = (name_), .version = (version_))
#else
#define EVS_MODULE_MAGIC(name_, version_) PG_MODULE_MAGIC
#endif

/* 18 adds an instrumentation argument, 19 flags */
static inline IndexScanDesc
evs_index_beginscan(Relation heap, Relation index, Snapshot snapshot, int nkeys)
{
#if PG_VERSION_NUM >= 190000
	return index_beginscan(heap, index, snapshot, NULL, nkeys, 0, 0);
#elif PG_VERSION_NUM >= 180000
	return index_beginscan(heap, index, snapshot, NULL, nkeys, 0);
#else
	return index_beginscan(heap, index, snapshot, nkeys, 0);
#endif
}

/* 16 adds onlySummarizing, 19 turns the booleans into flags */
static inline List *
evs_exec_insert_index_tuples(ResultRelInfo *rri, TupleTableSlot *slot,
							 EState *estate, bool no_dup_err,
							 bool *conflict, List *arbiters)
{
#if PG_VERSION_NUM >= 190000
	return ExecInsertIndexTuples(rri, estate,
								 no_dup_err ? EIIT_NO_DUPE_ERROR : 0,
								 slot, arbiters, conflict);
#elif PG_VERSION_NUM >= 160000
	return ExecInsertIndexTuples(rri, slot, estate, false, no_dup_err,
								 conflict, arbiters, false);
#else
	return ExecInsertIndexTuples(rri, slot, estate, false, no_dup_err,
								 conflict, arbiters);
#endif
}

/* 18 adds the tuple that is being updated, if any */
static inline bool
evs_exec_check_index_constraints(ResultRelInfo *rri, TupleTableSlot *slot,
								 EState *estate, ItemPointer conflict,
								 List *arbiters)
{
#if PG_VERSION_NUM >= 180000
	ItemPointerData none;

	ItemPointerSetInvalid(&none);
	return ExecCheckIndexConstraints(rri, slot, estate, conflict, &none, arbiters);
#else
	return ExecCheckIndexConstraints(rri, slot, estate, conflict, arbiters);
#endif
}

/* 16 tells which kind of index needs new entries; 15 only whether any does */
static inline bool
evs_table_tuple_update(Relation rel, ItemPointer tid, TupleTableSlot *slot)
{
#if PG_VERSION_NUM >= 160000
	TU_UpdateIndexes update_indexes;

	simple_table_tuple_update(rel, tid, slot, InvalidSnapshot, &update_indexes);
	return update_indexes == TU_All;
#else
	bool		update_indexes;

	simple_table_tuple_update(rel, tid, slot, InvalidSnapshot, &update_indexes);
	return update_indexes;
#endif
}

/* 18 has steps of their own for strict functions of one and of two arguments */
static inline bool
evs_is_function_step(ExprEvalOp op)
{
#if PG_VERSION_NUM >= 180000
	if (op == EEOP_FUNCEXPR_STRICT_1 || op == EEOP_FUNCEXPR_STRICT_2)
		return true;
#endif
	return op == EEOP_FUNCEXPR || op == EEOP_FUNCEXPR_STRICT ||
		op == EEOP_FUNCEXPR_FUSAGE || op == EEOP_FUNCEXPR_STRICT_FUSAGE;
}

/* 16 has one function for the rights on all kinds of objects */
static inline AclResult
evs_function_aclcheck(Oid function, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(ProcedureRelationId, function, role, ACL_EXECUTE);
#else
	return pg_proc_aclcheck(function, role, ACL_EXECUTE);
#endif
}

/* 16 can report errors without throwing */
static inline List *
evs_qualified_name_list(const char *name)
{
#if PG_VERSION_NUM >= 160000
	return stringToQualifiedNameList(name, NULL);
#else
	return stringToQualifiedNameList(name);
#endif
}

/* 17 adds orstronger */
static inline bool
evs_lock_held_by_me(const LOCKTAG *tag, LOCKMODE mode)
{
#if PG_VERSION_NUM >= 170000
	return LockHeldByMe(tag, mode, false);
#else
	return LockHeldByMe(tag, mode);
#endif
}

/* 17 can have the context where the caller wants it; strings are unescaped, and so checked */
static inline JsonLexContext *
evs_json_lex_context(char *json, int len)
{
#if PG_VERSION_NUM >= 170000
	return makeJsonLexContextCstringLen(NULL, json, len, GetDatabaseEncoding(), true);
#else
	return makeJsonLexContextCstringLen(json, len, GetDatabaseEncoding(), true);
#endif
}

/* 17 moves the local transaction id into PGPROC.vxid */
static inline LocalTransactionId
evs_my_lxid(void)
{
#if PG_VERSION_NUM >= 170000
	return MyProc->vxid.lxid;
#else
	return MyProc->lxid;
#endif
}

/* 17 numbers processes by a variable of its own */
static inline int
evs_procno(void)
{
#if PG_VERSION_NUM >= 170000
	return MyProcNumber;
#else
	return MyProc->pgprocno;
#endif
}

/* 17 has named wait events for extensions; before, all share one name */
static inline uint32
evs_wait_event_new(const char *name)
{
#if PG_VERSION_NUM >= 170000
	return WaitEventExtensionNew(name);
#else
	return PG_WAIT_EXTENSION;
#endif
}

#endif							/* EVSTORE_COMPAT_H */
