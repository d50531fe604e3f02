/** Lines as they come: one WebSocket, which is opened again where it was lost. */

import { nsOf, tailUrl } from '../api/loki';
import { now } from '../time/clock';
import { isBefore, linesOf, withoutKnown, type Line, type WireStream } from './line';

export type TailState = 'connecting' | 'open' | 'waiting' | 'closed';

interface Message {
  streams?: WireStream[] | null;
  dropped_entries?: unknown[] | null;
  /** What lines may lack; the last of it is about those that were dropped, if any were. */
  warnings?: string[] | null;
}

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
const STEADY_MS = 5_000;
/** Lines of the past that are asked for when a connection begins again. */
const LIMIT = 1000;
const FLUSH_MS = 200;
/** Words of the server that are kept, the latest. */
const MOST_NOTES = 3;
/** The rate is that of so many seconds. */
const RATE_SECONDS = 5;

export class Tail {
  state = $state<TailState>('connecting');
  retryAt = $state(0);
  /** Why the server ended the connection; empty if it did not say. */
  reason = $state('');
  /** Lines each second. */
  rate = $state(0);
  /** Lines that the server left out because this page read too slowly. */
  skipped = $state(0);
  /** What the server says of lines that may lack, the latest last: which brokers do not answer, or do again. */
  notes = $state<string[]>([]);
  #socket: WebSocket | null = null;
  #waitMs = FIRST_WAIT_MS;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #ticker: ReturnType<typeof setInterval>;
  #flusher: ReturnType<typeof setTimeout> | undefined;
  #fresh: Line[] = [];
  #counts: number[] = [0];
  /** Lines of the newest time that came, which come again after a reconnect. */
  #newest: Line[] = [];

  /** `since` are lines that are known already; what follows them is told, the oldest first, in batches. */
  constructor(
    readonly query: string,
    since: readonly Line[],
    readonly told: (lines: Line[]) => void,
  ) {
    this.#remember(since);
    this.#connect();
    this.#ticker = setInterval(() => {
      this.rate = this.#counts.reduce((sum, count) => sum + count, 0) / this.#counts.length;
      this.#counts.push(0);
      if (this.#counts.length > RATE_SECONDS) this.#counts.shift();
    }, 1000);
  }

  close(): void {
    this.state = 'closed';
    clearTimeout(this.#timer);
    clearTimeout(this.#flusher);
    clearInterval(this.#ticker);
    this.#socket?.close();
    this.#socket = null;
  }

  retry(): void {
    if (this.state !== 'waiting') return;
    clearTimeout(this.#timer);
    this.#connect();
  }

  #connect(): void {
    this.state = 'connecting';
    const since = this.#newest[0]?.ns ?? nsOf(now());
    let opened: WebSocket;
    try {
      opened = new WebSocket(tailUrl(this.query, since, LIMIT));
    } catch {
      // A query that is too long for an address is refused by the browser.
      this.#wait();
      return;
    }
    this.#socket = opened;
    let openSince = Infinity;
    opened.addEventListener('open', () => {
      openSince = performance.now();
      this.state = 'open';
      this.reason = '';
    });
    opened.addEventListener('message', (event) => this.#take(event.data));
    opened.addEventListener('close', ({ reason }) => {
      if (this.#socket !== opened) return;
      if (reason !== '') this.reason = reason;
      if (performance.now() - openSince > STEADY_MS) this.#waitMs = FIRST_WAIT_MS;
      this.#wait();
    });
  }

  #wait(): void {
    const jittered = this.#waitMs * (0.75 + Math.random() * 0.5);
    this.#waitMs = Math.min(LONGEST_WAIT_MS, this.#waitMs * 2);
    this.state = 'waiting';
    this.retryAt = Date.now() + jittered;
    this.#timer = setTimeout(() => this.#connect(), jittered);
  }

  #take(data: unknown): void {
    let message: Message;
    try {
      message = JSON.parse(String(data)) as Message;
    } catch {
      return;
    }
    const dropped = message.dropped_entries?.length ?? 0;
    this.skipped += dropped;
    const notes = (message.warnings ?? []).slice(0, dropped > 0 ? -1 : undefined);
    if (notes.length > 0) this.notes = [...this.notes, ...notes].slice(-MOST_NOTES);
    let lines = linesOf(message.streams ?? [], 'forward');
    const edge = this.#newest[0]?.ns;
    if (edge !== undefined) lines = withoutKnown(lines, this.#newest, edge);
    if (lines.length === 0) return;
    this.#remember(lines);
    this.#counts[this.#counts.length - 1] = (this.#counts[this.#counts.length - 1] as number) + lines.length;
    this.#fresh.push(...lines);
    this.#flusher ??= setTimeout(() => {
      this.#flusher = undefined;
      const batch = this.#fresh;
      this.#fresh = [];
      batch.sort((a, b) => (a.ns === b.ns ? 0 : isBefore(a.ns, b.ns) ? -1 : 1));
      this.told(batch);
    }, FLUSH_MS);
  }

  #remember(lines: readonly Line[]): void {
    const last = lines[lines.length - 1];
    const known = this.#newest[0];
    if (!last || (known && isBefore(last.ns, known.ns))) return;
    const same = lines.filter(({ ns }) => ns === last.ns);
    this.#newest = known?.ns === last.ns ? [...this.#newest, ...same] : same;
  }
}

