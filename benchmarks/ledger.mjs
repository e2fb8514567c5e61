// What the benchmark apps remember about runs, keyed by the `mark` that the load generator put into the event.
//
// All times are microseconds of CLOCK_MONOTONIC, which Python's time.monotonic_ns() reads too, so that the load
// generator can subtract them from its own. Runs that end ("f 17 18") or go to sleep or wait ("s 4 5") are also
// written to stdout, at most one line each per turn of the event loop, so that nobody has to poll for them.

export const nowUs = () => Number(process.hrtime.bigint() / 1000n);

export class Ledger {
  constructor() {
    this.size = 1 << 17;
    this.columns = {};
    for (const name of ["first", "slept", "resumed", "finished"]) this.columns[name] = new Float64Array(this.size);
    this.requests = 0;
    this.repeats = 0; // final answers given to a run that had one: harmless, but worth seeing
    this.pending = { finished: [], slept: [] };
    this.scheduled = false;
  }

  note(name, mark, at) {
    if (mark < 0) return;
    if (mark >= this.size) this.#grow(mark);
    const column = this.columns[name];
    if (column[mark] === 0) {
      column[mark] = at;
    } else if (name === "finished") {
      this.repeats += 1;
      return;
    } else {
      return;
    }
    if (!(name in this.pending)) return;
    this.pending[name].push(mark);
    if (this.scheduled) return;
    this.scheduled = true;
    setImmediate(() => this.#flush());
  }

  #flush() {
    this.scheduled = false;
    for (const [name, marks] of Object.entries(this.pending)) {
      if (marks.length) process.stdout.write(`${name[0]} ${marks.join(" ")}\n`);
      this.pending[name] = [];
    }
  }

  #grow(mark) {
    while (this.size <= mark) this.size *= 2;
    for (const name of Object.keys(this.columns)) {
      const grown = new Float64Array(this.size);
      grown.set(this.columns[name]);
      this.columns[name] = grown;
    }
  }

  // The answer to GET /_stats?from=F&count=N: for each mark of the range when it happened, 0 for never.
  stats(search) {
    const from = Number(search.get("from") ?? 0);
    const to = from + Number(search.get("count") ?? 0);
    const answer = { requests: this.requests, repeats: this.repeats };
    for (const [name, column] of Object.entries(this.columns)) {
      const slice = Array.from(column.subarray(from, to));
      while (slice.length < to - from) slice.push(0);
      answer[name] = slice;
    }
    return JSON.stringify(answer);
  }
}

// Listens on a free port of the loopback and tells the parent process where ("ready PORT").
export function listen(server) {
  server.keepAliveTimeout = 120_000;
  server.requestTimeout = 0;
  server.listen(0, "127.0.0.1", 4096, () => process.stdout.write(`ready ${server.address().port}\n`));
  const end = () => process.exit(0);
  process.on("SIGTERM", end);
  process.stdin.on("end", end).resume(); // the parent died: nobody else would end this process
}
