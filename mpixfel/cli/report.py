"""mpixfel report: a run on one self-contained HTML page, as JSON, and on one page of PDF."""
HELP = "a run on one HTML page, as JSON, and as PDF"


def add_arguments(parser):
    """Arguments of `mpixfel report`."""
    parser.add_argument("run", help="run directory, of a run finished or not")
    parser.add_argument("-o", "--output", metavar="DIR", help="where the files go (default: the run directory)")
    parser.add_argument("--no-pdf", action="store_true", help="leave report.pdf out")


def run(args):
    """Write the report; returns the exit code."""
    from mpixfel.report.write import write_report

    print(write_report(args.run, args.output, pdf=not args.no_pdf))
    return 0
