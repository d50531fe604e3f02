/** Keys: single ones and `g x` sequences. Typing in a field never triggers them. */

export type Bindings = Record<string, (event: KeyboardEvent) => void>;

const SEQUENCE_MS = 1200;
const stack: Bindings[] = [];
let prefix = '';
let prefixAt = 0;

const isTyping = (target: EventTarget | null): boolean =>
  target instanceof Element && target.closest('input, textarea, select, [contenteditable="true"], dialog') !== null;

/** What a focused control or scrolling region does with a key comes first. */
const belongsToControl = ({ key, target }: KeyboardEvent): boolean => {
  if (!(target instanceof Element)) return false;
  if (key === ' ' || key === 'Enter') return target.closest('button, a, summary') !== null;
  return key.startsWith('Arrow') && target.closest('[role="region"], pre, [popover]') !== null;
};

function handle(event: KeyboardEvent): void {
  if (event.defaultPrevented || event.isComposing) return;
  const command = (event.metaKey || event.ctrlKey) && !event.altKey;
  if (command) {
    run(`mod+${event.key.toLowerCase()}`, event);
    return;
  }
  if (event.altKey || isTyping(event.target) || belongsToControl(event)) return;
  const key = event.key === ' ' ? 'space' : event.key;
  if (prefix !== '' && performance.now() - prefixAt < SEQUENCE_MS) {
    const sequence = `${prefix} ${key}`;
    prefix = '';
    if (run(sequence, event)) return;
  }
  prefix = '';
  if (stack.some((bindings) => Object.keys(bindings).some((name) => name.startsWith(`${key} `)))) {
    prefix = key;
    prefixAt = performance.now();
    return;
  }
  run(key, event);
}

function run(name: string, event: KeyboardEvent): boolean {
  for (let i = stack.length - 1; i >= 0; i--) {
    const action = stack[i]?.[name];
    if (action) {
      event.preventDefault();
      action(event);
      return true;
    }
  }
  return false;
}

/** Binds keys until the returned function is called; what was bound last wins. */
export function shortcuts(bindings: Bindings): () => void {
  if (stack.length === 0) addEventListener('keydown', handle);
  stack.push(bindings);
  return () => {
    stack.splice(stack.indexOf(bindings), 1);
    if (stack.length === 0) removeEventListener('keydown', handle);
  };
}

/** Moves the focus between the matching children by arrow keys, as they lie on the screen. */
export function arrows(event: KeyboardEvent, container: HTMLElement, selector: string): void {
  const current = document.activeElement;
  if (!(current instanceof HTMLElement) || !current.matches(selector) || !event.key.startsWith('Arrow')) return;
  const items = [...container.querySelectorAll<HTMLElement>(selector)];
  let next: HTMLElement | undefined;
  if (event.key === 'ArrowRight' || event.key === 'ArrowLeft') {
    next = items[items.indexOf(current) + (event.key === 'ArrowRight' ? 1 : -1)];
  } else {
    next = nextRow(current, items, event.key === 'ArrowDown' ? 1 : -1);
  }
  event.preventDefault();
  next?.focus();
}

/** Of the nearest row below (1) or above (-1), what lies closest to being straight below or above. */
function nextRow(current: HTMLElement, items: readonly HTMLElement[], sign: 1 | -1): HTMLElement | undefined {
  const from = current.getBoundingClientRect();
  let best: HTMLElement | undefined;
  let bestDown = Infinity;
  let bestAside = Infinity;
  for (const item of items) {
    const at = item.getBoundingClientRect();
    const down = (at.top - from.top) * sign;
    const aside = Math.abs(at.left - from.left);
    if (down < 1 || down > bestDown + 1) continue;
    if (down < bestDown - 1 || aside < bestAside) {
      best = item;
      bestDown = down;
      bestAside = aside;
    }
  }
  return best;
}
