/*
 * errors.h
 *	  evstore's own SQLSTATE class, VS.
 *
 * Classes that begin with A to H belong to the SQL standard; V does not.
 * docs/reference/errors.md says for each code whether a retry can help.  The
 * message of an error is one sentence, the DETAIL a JSON object with the
 * facts, so that a client can branch without parsing prose.
 */
#ifndef EVSTORE_ERRORS_H
#define EVSTORE_ERRORS_H

#include "lib/stringinfo.h"
#include "utils/elog.h"

#define ERRCODE_EVS_WRONG_EXPECTED_VERSION	MAKE_SQLSTATE('V','S','0','0','1')
#define ERRCODE_EVS_STREAM_DELETED			MAKE_SQLSTATE('V','S','0','0','2')
#define ERRCODE_EVS_DUPLICATE_EVENT_ID		MAKE_SQLSTATE('V','S','0','0','3')
#define ERRCODE_EVS_STREAM_NOT_FOUND		MAKE_SQLSTATE('V','S','0','0','4')
#define ERRCODE_EVS_INVALID_EVENT			MAKE_SQLSTATE('V','S','0','0','5')
#define ERRCODE_EVS_APPEND_ONLY				MAKE_SQLSTATE('V','S','0','0','6')
#define ERRCODE_EVS_LEASE_LOST				MAKE_SQLSTATE('V','S','0','0','7')
#define ERRCODE_EVS_OBJECT_EXISTS			MAKE_SQLSTATE('V','S','0','0','8')
#define ERRCODE_EVS_OBJECT_NOT_FOUND		MAKE_SQLSTATE('V','S','0','0','9')
#define ERRCODE_EVS_INVALID_DEFINITION		MAKE_SQLSTATE('V','S','0','1','0')
#define ERRCODE_EVS_WORKER_UNAVAILABLE		MAKE_SQLSTATE('V','S','0','1','1')
#define ERRCODE_EVS_HANDLER_FAILED			MAKE_SQLSTATE('V','S','0','1','2')
#define ERRCODE_EVS_TRANSITION_REFUSED		MAKE_SQLSTATE('V','S','0','1','3')
#define ERRCODE_EVS_SAGA_STEP_FAILED		MAKE_SQLSTATE('V','S','0','1','4')

/* An argument that is needed is null.  Throws. */
extern void evs_throw_null(const char *argument);

/* A DETAIL object is built member by member. */
extern void evs_detail_begin(StringInfo buf);
extern void evs_detail_string(StringInfo buf, const char *key, const char *value);
extern void evs_detail_int(StringInfo buf, const char *key, int64 value);
extern void evs_detail_bool(StringInfo buf, const char *key, bool value);
extern void evs_detail_raw(StringInfo buf, const char *key, const char *json);
extern char *evs_detail_end(StringInfo buf);

#endif							/* EVSTORE_ERRORS_H */
