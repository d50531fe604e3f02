/**
 * Looks up from history what a live picture lacks. An interruption is over before everything has come that was
 * kept back during it: agents wait up to half a minute before they try again, and then have a backlog to send.
 * So one look is not enough.
 */

/** After an interruption there is a look at once, and one at each of these times since. */
const LOOKS_MS = [5_000, 10_000, 20_000, 35_000, 60_000, 120_000] as const;
/** A look follows late samples when this long none came, */
const QUIET_MS = 1_500;
/** but while they go on coming at least this often. */
const LONGEST_MS = 10_000;

export class Mender {
  #plan: ReturnType<typeof setTimeout>[] = [];
  #quiet: ReturnType<typeof setTimeout> | undefined;
  #lateSince = NaN;
  #interruptedAt = -Infinity;
  #isLooking = false;
  #isAsked = false;

  /** `look` replaces what is drawn by what is stored, and never runs twice at a time. */
  constructor(readonly look: () => Promise<unknown>) {}

  /** Whether an interruption is so recent that samples older than now are part of it. */
  get isMending(): boolean {
    return performance.now() - this.#interruptedAt < (LOOKS_MS[LOOKS_MS.length - 1] as number);
  }

  /** The feed has skipped something. */
  interrupted(): void {
    this.close();
    this.#interruptedAt = performance.now();
    this.#plan = LOOKS_MS.map((after) => setTimeout(() => this.now(), after));
    this.now();
  }

  /** Samples came that are older than what is drawn. */
  late(): void {
    const at = performance.now();
    if (Number.isNaN(this.#lateSince)) this.#lateSince = at;
    clearTimeout(this.#quiet);
    const wait = Math.min(QUIET_MS, Math.max(0, this.#lateSince + LONGEST_MS - at));
    this.#quiet = setTimeout(() => {
      this.#lateSince = NaN;
      this.now();
    }, wait);
  }

  /** Looks now, or again when the look under way has ended. */
  now(): void {
    if (this.#isLooking) {
      this.#isAsked = true;
      return;
    }
    this.#isLooking = true;
    void this.look().finally(() => {
      this.#isLooking = false;
      if (!this.#isAsked) return;
      this.#isAsked = false;
      this.now();
    });
  }

  /** Gives up what is planned. */
  close(): void {
    for (const timer of this.#plan.splice(0)) clearTimeout(timer);
    clearTimeout(this.#quiet);
    this.#lateSince = NaN;
    this.#interruptedAt = -Infinity;
    this.#isAsked = false;
  }
}
