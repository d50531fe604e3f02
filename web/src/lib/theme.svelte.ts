import { load, save } from './storage';

export type Theme = 'light' | 'dark';
export type ThemeChoice = Theme | 'system';

const isChoice = (v: unknown): v is ThemeChoice => v === 'light' || v === 'dark' || v === 'system';
const systemDark = matchMedia('(prefers-color-scheme: dark)');

let choice = $state<ThemeChoice>(load('theme', isChoice) ?? 'system');
let system = $state<Theme>(systemDark.matches ? 'dark' : 'light');
const shown = $derived<Theme>(choice === 'system' ? system : choice);

/** The palette as canvases need it: resolved once per theme, because getComputedStyle is not cheap. */
let resolved = new Map<string, string>();

function apply(): void {
  document.documentElement.dataset.theme = choice === 'system' ? system : choice;
  resolved = new Map();
}

systemDark.addEventListener('change', (event) => {
  system = event.matches ? 'dark' : 'light';
  apply();
});
apply();

export const theme = {
  get choice(): ThemeChoice {
    return choice;
  },
  get shown(): Theme {
    return shown;
  },
  choose(next: ThemeChoice): void {
    choice = next;
    save('theme', next);
    apply();
  },
  /** Flips what is shown now; from then on the choice is explicit. */
  toggle(): void {
    theme.choose(shown === 'dark' ? 'light' : 'dark');
  },
};

/** Yields the value of a CSS custom property such as `--series-3` for drawing on a canvas. */
export function cssColour(name: string): string {
  let value = resolved.get(name);
  if (value === undefined) {
    value = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    resolved.set(name, value);
  }
  return value;
}
