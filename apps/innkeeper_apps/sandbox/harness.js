// Runs one transform in a context that nothing else has used or will use. Its value is the function that the worker
// calls; the worker hands in texts and gets one text back, so no object crosses in either direction.
//
// All that this needs of the language is taken before the transform's own code runs: what that code does to
// prototypes, it does to itself. Whatever it throws is caught and described here, within the limits of the call.
(function () {
  "use strict";
  const { parse, stringify } = JSON;
  const { ownKeys, get, set, getOwnPropertyDescriptor, deleteProperty } = Reflect;
  const evaluate = eval;
  const textOf = String;
  const PromiseOf = Promise;
  const ProxyOf = Proxy;
  const uncurried = Function.prototype.bind.bind(Function.prototype.call);
  const slice = uncurried(String.prototype.slice);
  const lower = uncurried(String.prototype.toLowerCase);
  const isIn = uncurried(Object.prototype.hasOwnProperty);
  const described = uncurried(Object.prototype.toString);
  const join = uncurried(Array.prototype.join);

  // The source's own last value is not looked at; `const transform = …` lives only as long as the code it stands in.
  const FIND = '\n;typeof transform === "function" ? transform : undefined';
  const MOST_TEXT = 2000;
  const BYTE_ORDER_MARK = 0xfeff;

  // How the text begins that is given back: JSON never does so. A long text that `+` makes is one that the engine's
  // binding cannot read; `join` makes plain ones.
  const NOTHING = "~";
  const failed = (said) => join(["!", stringify(said)], "");

  const cut = (value) => (typeof value === "string" ? slice(value, 0, MOST_TEXT) : "");

  function failure(code, error) {
    const said = { __proto__: null, code, name: "", message: "", stack: "" };
    try {
      if (error === null || typeof error !== "object") {
        said.message = cut(textOf(error));
      } else {
        said.name = cut(error.name);
        said.message = cut(error.message);
        said.stack = cut(error.stack);
        if (said.name === "" && said.message === "") said.message = described(error);
      }
    } catch {
      said.message = "something that cannot be read";
    }
    // Memory may not suffice even for the error that says so.
    if (error === null || (said.name === "InternalError" && said.message === "out of memory")) said.code = "memory";
    return failed(said);
  }

  const refusal = (code) => failed({ __proto__: null, code, name: "", message: "", stack: "" });

  // Under the names that the senders' documentation prints, and found by any other case.
  function caseless(headers) {
    const names = { __proto__: null };
    for (const name of ownKeys(headers)) names[lower(name)] = name;
    const spelt = (key) => {
      if (typeof key !== "string" || isIn(headers, key)) return key;
      const name = names[lower(key)];
      return name === undefined || !isIn(headers, name) ? key : name;
    };
    return new ProxyOf(headers, {
      __proto__: null,
      get: (target, key) => get(target, spelt(key)),
      has: (target, key) => spelt(key) in target,
      getOwnPropertyDescriptor: (target, key) => getOwnPropertyDescriptor(target, spelt(key)),
      deleteProperty: (target, key) => deleteProperty(target, spelt(key)),
      set: (target, key, value) => {
        const name = spelt(key);
        if (typeof name === "string") names[lower(name)] = name;
        return set(target, name, value);
      },
    });
  }

  function event(mode, raw, given) {
    if (mode === "given") return parse(given);
    try {
      return parse(raw.charCodeAt(0) === BYTE_ORDER_MARK ? slice(raw, 1) : raw);
    } catch (error) {
      if (mode === "any") return null;
      throw error;
    }
  }

  function find(source) {
    let transform;
    try {
      transform = evaluate(source + FIND);
    } catch (error) {
      return failure(error instanceof SyntaxError ? "syntax" : "threw", error);
    }
    if (transform === undefined) return refusal("missing");
    if (described(transform) !== "[object Function]") return refusal("async");
    return transform;
  }

  // op "check" stops where the transform would be called.
  return function run(op, source, mode, raw, given, headersText, queryText) {
    let evt, headers, query;
    if (op === "call") {
      try {
        evt = event(mode, raw, given);
      } catch (error) {
        return failure("body", error);
      }
      headers = caseless(parse(headersText));
      query = parse(queryText);
    }
    const transform = find(source);
    if (typeof transform === "string") return transform;
    if (op === "check") return NOTHING;
    let result;
    try {
      result = transform(evt, headers, query, raw);
    } catch (error) {
      return failure("threw", error);
    }
    if (result === undefined || result === null) return NOTHING;
    let text;
    try {
      if (result instanceof PromiseOf) return refusal("async");
      text = stringify(result);
    } catch (error) {
      return failure("result", error);
    }
    return text === undefined ? refusal("function") : text;
  };
})();
