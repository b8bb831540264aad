/*
 * cesql_node.h
 *	  The trees that cesql.c makes and cesql_eval.c evaluates.
 */
#ifndef EVSTORE_CESQL_NODE_H
#define EVSTORE_CESQL_NODE_H

#include "filter/parse.h"

typedef enum EvsCesqlKind
{
	CESQL_LITERAL,				/* literal: a string, a boolean, or
								 * jbvNumeric: operation is it */
	CESQL_ATTRIBUTE,			/* name */
	CESQL_EXISTS,				/* name */
	CESQL_NOT,
	CESQL_MINUS,
	CESQL_ARITHMETIC,			/* operation: a character */
	CESQL_COMPARISON,			/* operation: EvsComparison */
	CESQL_LOGIC,				/* arguments after the first have their
								 * operation in theirs */
	CESQL_OPERAND,				/* of logic: operation, EvsCesqlLogic, and one
								 * argument */
	CESQL_LIKE,					/* glob, negated */
	CESQL_IN,					/* the first argument in the others, negated */
	CESQL_FUNCTION				/* operation: EvsCesqlFunction */
} EvsCesqlKind;

typedef enum EvsCesqlLogic
{
	CESQL_AND,
	CESQL_OR,
	CESQL_XOR
} EvsCesqlLogic;

typedef enum EvsCesqlFunction
{
	CESQL_LENGTH,
	CESQL_CONCAT,
	CESQL_CONCAT_WS,
	CESQL_LOWER,
	CESQL_UPPER,
	CESQL_TRIM,
	CESQL_LEFT,
	CESQL_RIGHT,
	CESQL_SUBSTRING,
	CESQL_ABS,
	CESQL_INT,
	CESQL_BOOL,
	CESQL_STRING,
	CESQL_IS_INT,
	CESQL_IS_BOOL
} EvsCesqlFunction;

typedef enum EvsCesqlType
{
	CESQL_TYPE_BOOLEAN,
	CESQL_TYPE_INTEGER,
	CESQL_TYPE_STRING,
	CESQL_TYPE_UNKNOWN			/* an attribute's, until it is looked at */
} EvsCesqlType;

#endif							/* EVSTORE_CESQL_NODE_H */
