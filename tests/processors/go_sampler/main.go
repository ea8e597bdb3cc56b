// Samples OTLP requests as the Collector's probabilistic sampler does. Arguments: signal, configuration as JSON. Input:
// protobuf requests, each after its length (4 bytes, big-endian). Output: what is kept of each, in the same form.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"log"
	"os"

	"github.com/open-telemetry/opentelemetry-collector-contrib/processor/probabilisticsamplerprocessor"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/processor"
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	factory := probabilisticsamplerprocessor.NewFactory()
	config := factory.CreateDefaultConfig()
	var section map[string]any
	check(json.Unmarshal([]byte(os.Args[2]), &section))
	check(confmap.NewFromStringMap(section).Unmarshal(config))
	settings := processor.Settings{
		ID:                component.NewID(factory.Type()),
		TelemetrySettings: componenttest.NewNopTelemetrySettings(),
		BuildInfo:         component.NewDefaultBuildInfo(),
	}
	sample := map[string]func([]byte) []byte{"traces": traces(factory, settings, config), "logs": logs(factory, settings, config)}[os.Args[1]]
	input, output := bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)
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
		kept := sample(body)
		check(binary.Write(output, binary.BigEndian, uint32(len(kept))))
		_, err = output.Write(kept)
		check(err)
	}
	check(output.Flush())
}

func traces(factory processor.Factory, settings processor.Settings, config component.Config) func([]byte) []byte {
	ctx, sink := context.Background(), new(consumertest.TracesSink)
	made, err := factory.CreateTraces(ctx, settings, config, sink)
	check(err)
	return func(body []byte) []byte {
		request, err := new(ptrace.ProtoUnmarshaler).UnmarshalTraces(body)
		check(err)
		sink.Reset()
		check(made.ConsumeTraces(ctx, request))
		var kept []byte
		for _, one := range sink.AllTraces() {
			kept, err = new(ptrace.ProtoMarshaler).MarshalTraces(one)
			check(err)
		}
		return kept
	}
}

func logs(factory processor.Factory, settings processor.Settings, config component.Config) func([]byte) []byte {
	ctx, sink := context.Background(), new(consumertest.LogsSink)
	made, err := factory.CreateLogs(ctx, settings, config, sink)
	check(err)
	return func(body []byte) []byte {
		request, err := new(plog.ProtoUnmarshaler).UnmarshalLogs(body)
		check(err)
		sink.Reset()
		check(made.ConsumeLogs(ctx, request))
		var kept []byte
		for _, one := range sink.AllLogs() {
			kept, err = new(plog.ProtoMarshaler).MarshalLogs(one)
			check(err)
		}
		return kept
	}
}
