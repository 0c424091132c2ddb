"""The command line: `sampan <verb>` and `sampan <noun> <verb>`.

main        global flags, the command's module, errors to one sentence, the exit status
commands    the table: verb -> module and summary; nothing is imported before it is chosen
exit        exit statuses, docker's
output      tables, sizes, times, warnings
terminal    raw mode, window size
streams     a process's stdio through fifos, copied by threads, and kept in the log
container/ image/ system/    a module a verb: `configure(parser)` and `async run(app, args)`
"""
