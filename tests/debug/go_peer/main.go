// Prints OTLP requests as the Collector's debug exporter does. Arguments: signal, verbosity, sampling_initial,
// sampling_thereafter. Input: protobuf requests, each after its length (4 bytes, big-endian).
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log"
	"os"
	"strconv"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/debugexporter"
	"go.opentelemetry.io/collector/exporter/exporterhelper"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	signal := os.Args[1]
	factory := debugexporter.NewFactory()
	config := factory.CreateDefaultConfig().(*debugexporter.Config)
	check(config.Verbosity.UnmarshalText([]byte(os.Args[2])))
	config.SamplingInitial, _ = strconv.Atoi(os.Args[3])
	config.SamplingThereafter, _ = strconv.Atoi(os.Args[4])
	config.UseInternalLogger = false
	// Without a queue every request is printed when it comes.
	config.QueueConfig = configoptional.None[exporterhelper.QueueBatchConfig]()
	ctx := context.Background()
	settings := exporter.Settings{
		ID:                component.NewID(factory.Type()),
		TelemetrySettings: componenttest.NewNopTelemetrySettings(),
		BuildInfo:         component.NewDefaultBuildInfo(),
	}
	send := map[string]func() (component.Component, func([]byte) error){
		"traces": func() (component.Component, func([]byte) error) {
			made, err := factory.CreateTraces(ctx, settings, config)
			check(err)
			return made, func(body []byte) error {
				request := ptraceotlp.NewExportRequest()
				check(request.UnmarshalProto(body))
				return made.ConsumeTraces(ctx, request.Traces())
			}
		},
		"metrics": func() (component.Component, func([]byte) error) {
			made, err := factory.CreateMetrics(ctx, settings, config)
			check(err)
			return made, func(body []byte) error {
				request := pmetricotlp.NewExportRequest()
				check(request.UnmarshalProto(body))
				return made.ConsumeMetrics(ctx, request.Metrics())
			}
		},
		"logs": func() (component.Component, func([]byte) error) {
			made, err := factory.CreateLogs(ctx, settings, config)
			check(err)
			return made, func(body []byte) error {
				request := plogotlp.NewExportRequest()
				check(request.UnmarshalProto(body))
				return made.ConsumeLogs(ctx, request.Logs())
			}
		},
	}[signal]
	made, consume := send()
	check(made.Start(ctx, componenttest.NewNopHost()))
	input := bufio.NewReader(os.Stdin)
	for {
		var size uint32
		err := binary.Read(input, binary.BigEndian, &size)
		if errors.Is(err, io.EOF) {
			break
		}
		check(err)
		body := make([]byte, size)
		_, err = io.ReadFull(input, body)
		check(err)
		check(consume(body))
	}
	check(made.Shutdown(ctx))
}
