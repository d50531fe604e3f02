/** An instant vector kept up to date: asked for at once, then pushed, or polled while there is no connection. */

import { queryVector, type InstantSeries } from '../api/client';
import { now } from '../time/clock';
import { live } from './socket.svelte';

const POLL_MS = 5_000;

/**
 * Follows an expression until the returned function is called. `result` gets the vector and the server's
 * time of its evaluation; `failed` gets why there is none.
 */
export function followVector(
  expr: string,
  intervalMs: number,
  result: (series: InstantSeries[], atMs: number) => void,
  failed: (error: unknown) => void,
): () => void {
  const abort = new AbortController();
  let pushed = false;

  const ask = async () => {
    try {
      const series = await queryVector(expr, { signal: abort.signal });
      const stamp = series[0]?.value?.[0];
      if (!abort.signal.aborted && !pushed) result(series, stamp === undefined ? now() : stamp * 1000);
    } catch (error) {
      if (!abort.signal.aborted) failed(error);
    }
  };

  void ask();
  const timer = setInterval(() => {
    if (live.connection === 'open') return;
    pushed = false;
    void ask();
  }, Math.max(POLL_MS, intervalMs));
  const unsubscribe = live.expression(expr, intervalMs, {
    result(series, atMs) {
      pushed = true;
      result(series, atMs);
    },
    error: (message) => failed(new Error(message)),
  });

  return () => {
    abort.abort();
    clearInterval(timer);
    unsubscribe();
  };
}
