/**
 * One WebSocket for the whole console. Subscriptions outlive connections: after a reconnect each is
 * sent again and its owner is told to fill the hole from history.
 */

import type { InstantSeries, Labels } from '../api/client';
import { tenant } from '../tenant.svelte';
import { parseFrame, type ClientFrame, type LiveSample, type ServerFrame } from './protocol';

export type Connection = 'connecting' | 'open' | 'waiting';

export interface SelectorHandlers {
  series(numbered: [number, Labels][]): void;
  samples(samples: LiveSample[]): void;
  /** The connection was lost and is back: series are numbered anew, and history has a hole to fill. */
  restarted(): void;
  /** The server skipped samples; series keep their numbers. */
  missed(): void;
  error?(message: string): void;
}

export interface ExpressionHandlers {
  result(series: InstantSeries[], atMs: number): void;
  error?(message: string): void;
}

type Subscription =
  | { kind: 'selector'; selector: string; handlers: SelectorHandlers }
  | { kind: 'expression'; expr: string; intervalMs: number; handlers: ExpressionHandlers };

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
/** How often the server is asked whether it is ready, and how often while it is not. */
const READY_MS = 10_000;
const AWAY_MS = 1_000;
const DOUBT_MS = 15_000;
/** A connection that lived this long was a good one: the next failure starts with a short wait again. */
const STEADY_MS = 5_000;

let connection = $state<Connection>('connecting');
let retryAt = $state(0);
let missed = $state(0);
/** Why the server has nothing to push although it answers; empty while it has. */
let away = $state('');
let interruptedMs = $state(0);

const subscriptions = new Map<number, Subscription>();
let nextId = 1;
let socket: WebSocket | null = null;
let waitMs = FIRST_WAIT_MS;
let timer: ReturnType<typeof setTimeout> | undefined;
let openedBefore = false;
let asking: ReturnType<typeof setTimeout> | undefined;
let isAsking = false;
/** Selectors whose samples have stopped, by their subscription, and since when. */
const silences = new Map<number, number>();
/** Nobody is logged in: no connection is tried until somebody is. */
let isClosed = true;

function send(frame: ClientFrame): void {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(frame));
}

function announce(id: number, subscription: Subscription): void {
  send(
    subscription.kind === 'selector'
      ? { type: 'subscribe', id, selector: subscription.selector }
      : { type: 'subscribe', id, expr: subscription.expr, interval_ms: subscription.intervalMs },
  );
}

function connect(): void {
  clearTimeout(timer);
  connection = 'connecting';
  const url = new URL('/api/v1/live', location.href);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  if (tenant.chosen !== '') url.searchParams.set('tenant', tenant.chosen);
  const opened = new WebSocket(url);
  socket = opened;
  let openSince = Infinity;

  opened.addEventListener('open', () => {
    openSince = performance.now();
    connection = 'open';
    silences.clear();
    void ask();
    for (const [id, subscription] of subscriptions) {
      if (openedBefore && subscription.kind === 'selector') subscription.handlers.restarted();
      announce(id, subscription);
    }
    openedBefore = true;
  });
  opened.addEventListener('message', (event) => {
    const frame = parseFrame(event.data);
    if (frame) dispatch(frame);
  });
  // A failed connection fires `error` and then `close`; the latter is enough for both.
  opened.addEventListener('close', () => {
    if (socket !== opened || isClosed) return;
    if (performance.now() - openSince > STEADY_MS) waitMs = FIRST_WAIT_MS;
    const jittered = waitMs * (0.75 + Math.random() * 0.5);
    waitMs = Math.min(LONGEST_WAIT_MS, waitMs * 2);
    connection = 'waiting';
    retryAt = Date.now() + jittered;
    timer = setTimeout(connect, jittered);
  });
}

function dispatch(frame: ServerFrame): void {
  const subscription = frame.id === undefined ? undefined : subscriptions.get(frame.id);
  if (!subscription) return;
  if (frame.type === 'error') {
    void ask();
    if (subscription.kind === 'selector' && !silences.has(frame.id as number)) silences.set(frame.id as number, Date.now());
    subscription.handlers.error?.(frame.error);
  } else if (subscription.kind === 'expression') {
    if (frame.type === 'result') subscription.handlers.result(frame.result, frame.t);
  } else if (frame.type === 'series') {
    subscription.handlers.series(frame.series);
  } else if (frame.type === 'samples') {
    subscription.handlers.samples(frame.samples);
  }
  if (frame.type === 'missed') {
    const since = silences.get(frame.id);
    // After a silence nobody has counted, and this page is not to blame.
    if (since === undefined) missed += frame.samples;
    else interruptedMs = Date.now() - since;
    silences.delete(frame.id);
    void ask();
    if (subscription.kind === 'selector') subscription.handlers.missed();
  }
}

/**
 * Asks whether the server has anything to push: one in a process of its own goes on answering while its broker
 * is away. Asks again by itself as long as there is a connection.
 */
async function ask(): Promise<void> {
  if (isAsking) return;
  isAsking = true;
  clearTimeout(asking);
  try {
    const answer = await fetch('/-/ready', { cache: 'no-store' });
    away = answer.status === 503 ? (await answer.text()).trim() : '';
  } catch {
    // Then the connection is about to end, which is told in its own way.
  }
  isAsking = false;
  // Samples may stop a little before the server says that it is not ready.
  const isDoubtful = away !== '' || [...silences.values()].some((since) => Date.now() - since < DOUBT_MS);
  if (connection === 'open' && !isClosed) asking = setTimeout(() => void ask(), isDoubtful ? AWAY_MS : READY_MS);
}

function add(subscription: Subscription): () => void {
  if (!socket && !isClosed) connect();
  const id = nextId++;
  subscriptions.set(id, subscription);
  announce(id, subscription);
  return () => {
    silences.delete(id);
    if (subscriptions.delete(id)) send({ type: 'unsubscribe', id });
  };
}

export const live = {
  get connection(): Connection {
    return connection;
  },
  /** When the next attempt is due, on this machine's clock; meaningful while `waiting`. */
  get retryAt(): number {
    return retryAt;
  },
  /** Samples the server dropped because this page did not read fast enough. */
  get missed(): number {
    return missed;
  },
  /** Why nothing is pushed although the connection is open; empty while something is. */
  get away(): string {
    return connection === 'open' ? away : '';
  },
  /** How long samples have stopped the last time that they did, in milliseconds; 0 if they never have. */
  get interruptedMs(): number {
    return interruptedMs;
  },
  dismissMissed(): void {
    missed = 0;
  },
  dismissInterrupted(): void {
    interruptedMs = 0;
  },
  /** Connects, or asks, now instead of when the wait is over. */
  retry(): void {
    if (connection === 'waiting') connect();
    else if (away !== '') void ask();
  },
  open(): void {
    isClosed = false;
    if (!socket) connect();
  },
  /** Ends the connection until {@link live.open}; subscriptions are kept. */
  close(): void {
    isClosed = true;
    clearTimeout(timer);
    clearTimeout(asking);
    socket?.close();
    socket = null;
  },
  /** Every sample of the matching series as it is collected. Yields the function that ends it. */
  selector(selector: string, handlers: SelectorHandlers): () => void {
    return add({ kind: 'selector', selector, handlers });
  },
  /** The value of an expression, evaluated by the server every `intervalMs`. Yields the function that ends it. */
  expression(expr: string, intervalMs: number, handlers: ExpressionHandlers): () => void {
    return add({ kind: 'expression', expr, intervalMs, handlers });
  },
};
