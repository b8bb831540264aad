#!/bin/bash
#
# Static analysis: cppcheck on the C code, shellcheck on the scripts.

. "$(dirname "$0")/lib.sh"
cd "$ROOT"
rc=0

# Without PostgreSQL's headers, which are not ours to check and take minutes;
# so what needs them is switched off.
cppcheck_sources() {
	cppcheck --quiet --error-exitcode=1 --inline-suppr --enable=warning,performance,portability \
		--suppress=missingInclude --suppress=unknownMacro --suppress=nullPointerArithmetic --suppress=varFuncNullUB \
		--suppress=ctuOneDefinitionRuleViolation \
		-DPG_VERSION_NUM=150000 -D'PG_FUNCTION_ARGS=void *fcinfo' -D'PG_FUNCTION_INFO_V1(x)=' -D'PG_MODULE_MAGIC=' \
		-I src -j"$(nproc)" src
}

shellcheck_scripts() {
	local scripts
	mapfile -t scripts < <(grep -rlE '^#!/bin/bash|^# shellcheck shell=bash' test .ci --include='*.sh' --include=run)
	shellcheck -x -P SCRIPTDIR -e SC2001,SC2016,SC2034,SC2317 "${scripts[@]}"
}

for tool in cppcheck shellcheck; do
	command -v $tool >/dev/null || die "$tool not found: install the package of this name"
done
cppcheck_sources || rc=1
shellcheck_scripts || rc=1
exit $rc
