import { load, save } from '../storage';
import type { Dictionary, Key as FirstKey } from './en';
import type { PageDictionary, PageKey } from './en-pages';
import { fill, type Values } from './fill';

export type Language = 'en' | 'zh';
export type Key = FirstKey | PageKey;
type Texts = Dictionary & PageDictionary;

/** Each is a file of its own: nobody reads two languages at once. */
const LOADERS: Record<Language, () => Promise<Dictionary>> = {
  en: async () => (await import('./en')).en,
  zh: async () => (await import('./zh')).zh,
};
/** What only the pages say that are loaded later. */
const PAGE_LOADERS: Record<Language, () => Promise<PageDictionary>> = {
  en: async () => (await import('./en-pages')).enPages,
  zh: async () => (await import('./zh-pages')).zhPages,
};
const TAGS: Record<Language, string> = { en: 'en', zh: 'zh-CN' };
const isLanguage = (value: unknown): value is Language => value === 'en' || value === 'zh';

function preferred(): Language {
  return navigator.languages.some((tag) => tag.toLowerCase().startsWith('zh')) &&
    !navigator.languages[0]?.toLowerCase().startsWith('en')
    ? 'zh'
    : 'en';
}

/** Language and texts change together; before {@link i18n.start} there are none. */
const first = load('language', isLanguage) ?? preferred();
let spoken = $state.raw<{ language: Language; texts: Partial<Texts> }>({ language: first, texts: {} });
/** What was chosen last; a slower file of an earlier choice must not win. */
let wanted = first;
/** Whether any page has been there that says more than the first one. */
let withPages = false;

async function speak(next: Language): Promise<void> {
  wanted = next;
  const [texts, more] = await Promise.all([LOADERS[next](), withPages ? PAGE_LOADERS[next]() : {}]);
  if (wanted !== next) return;
  spoken = { language: next, texts: { ...texts, ...more } };
  document.documentElement.lang = TAGS[next];
}

export const i18n = {
  get language(): Language {
    return spoken.language;
  },
  /** Loads the texts; nothing may be shown before. */
  start(): Promise<void> {
    return speak(spoken.language);
  },
  /** Loads a page together with the texts that it needs. */
  async page<T>(loading: Promise<T>): Promise<T> {
    if (withPages) return loading;
    const language = wanted;
    const [page, more] = await Promise.all([loading, PAGE_LOADERS[language]()]);
    withPages = true;
    if (wanted === language && spoken.language === language) spoken = { language, texts: { ...spoken.texts, ...more } };
    else await speak(wanted);
    return page;
  },
  choose(next: Language): void {
    save('language', next);
    void speak(next);
  },
  toggle(): void {
    i18n.choose(wanted === 'en' ? 'zh' : 'en');
  },
};

/** The text of a key in the chosen language; reactive wherever it is read in a component. */
export const t = (key: Key, values?: Values): string => fill(spoken.texts[key] ?? key, values);

/** Like {@link t} for keys made at run time, such as a process state; yields the fallback for unknown ones. */
export const tOr = (key: string, fallback: string): string =>
  key in spoken.texts ? t(key as Key) : fallback;
