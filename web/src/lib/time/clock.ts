/**
 * The server's clock as seen from here. A laptop that is a minute off must not draw every host as late,
 * so "now" is the server's, learnt from the evaluation time that each instant query reports.
 */

let offset = 0;
let bestRoundTrip = Infinity;

/** Takes in that the server's clock read `serverMs` somewhere between two readings of ours. */
export function observe(serverMs: number, sentMs: number, receivedMs: number): void {
  const roundTrip = receivedMs - sentMs;
  // The shortest round trip bounds the error best; let an old record fade, clocks drift.
  if (roundTrip > bestRoundTrip * 1.5) {
    bestRoundTrip *= 1.05;
    return;
  }
  bestRoundTrip = roundTrip;
  offset = serverMs - (sentMs + receivedMs) / 2;
}

/** Milliseconds since the epoch on the server's clock. */
export const now = (): number => Date.now() + offset;
