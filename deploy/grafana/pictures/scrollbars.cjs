// What @grafana/ui wants as the default export of this package, which is CommonJS.
module.exports = require('./node_modules/react-custom-scrollbars-2/lib/index.js').default;
