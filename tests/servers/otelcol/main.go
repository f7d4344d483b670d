// An OpenTelemetry Collector of Debian's libraries, for the tests: OTLP in, and whatever it
// received in words on standard error.
package main

import (
    "log"

    "go.opentelemetry.io/collector/component"
    "go.opentelemetry.io/collector/confmap"
    "go.opentelemetry.io/collector/confmap/provider/envprovider"
    "go.opentelemetry.io/collector/confmap/provider/fileprovider"
    "go.opentelemetry.io/collector/exporter"
    "go.opentelemetry.io/collector/exporter/debugexporter"
    "go.opentelemetry.io/collector/otelcol"
    "go.opentelemetry.io/collector/receiver"
    "go.opentelemetry.io/collector/receiver/otlpreceiver"
    "go.opentelemetry.io/collector/service/telemetry/otelconftelemetry"
)

func components() (otelcol.Factories, error) {
    factories := otelcol.Factories{Telemetry: otelconftelemetry.NewFactory()}
    var err error
    factories.Receivers, err = otelcol.MakeFactoryMap[receiver.Factory](otlpreceiver.NewFactory())
    if err != nil {
        return factories, err
    }
    factories.Exporters, err = otelcol.MakeFactoryMap[exporter.Factory](debugexporter.NewFactory())
    return factories, err
}

func main() {
    // A collector insists on the one for variables, which is its default.
    resolver := confmap.ResolverSettings{
        ProviderFactories: []confmap.ProviderFactory{
            envprovider.NewFactory(),
            fileprovider.NewFactory(),
        },
    }
    command := otelcol.NewCommand(otelcol.CollectorSettings{
        BuildInfo:              component.BuildInfo{Command: "otelcol", Version: "0"},
        Factories:              components,
        ConfigProviderSettings: otelcol.ConfigProviderSettings{ResolverSettings: resolver},
    })
    if err := command.Execute(); err != nil {
        log.Fatal(err)
    }
}
