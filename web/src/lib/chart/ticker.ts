/**
 * One animation loop for all that scrolls. Drawing is done for at most a fraction of each frame's time:
 * when the visible charts together cost more, every second, third … frame is skipped for all of them.
 */

/** Draws for the given moment (performance.now()); called while registered and the page is visible. */
export type Draw = (frameMs: number) => void;

const drawers = new Set<Draw>();
const BUDGET_MS = 7;
const MOST_SKIPPED = 30;

let handle = 0;
let cost = 0;
let skip = 0;

function frame(at: number): void {
  handle = requestAnimationFrame(frame);
  if (skip > 0) {
    skip--;
    return;
  }
  const started = performance.now();
  for (const draw of drawers) draw(at);
  const spent = performance.now() - started;
  cost = cost * 0.9 + spent * 0.1;
  skip = Math.min(MOST_SKIPPED, Math.floor(cost / BUDGET_MS));
}

/** Registers a drawer; yields the function that removes it. The loop rests while there is none. */
export function animate(draw: Draw): () => void {
  drawers.add(draw);
  if (drawers.size === 1) handle = requestAnimationFrame(frame);
  return () => {
    drawers.delete(draw);
    if (drawers.size === 0) cancelAnimationFrame(handle);
  };
}
